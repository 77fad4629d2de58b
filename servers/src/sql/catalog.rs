//! Tables of a database as its users see them, the same for every database.

use std::collections::BTreeMap;
use std::fmt::Write;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::ResultSet;

/// Selection of tables.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    pub schema: Option<String>,
    pub table: Option<String>,
}

/// One table or view in a list.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TableEntry {
    /// Schema; none where the database has no schemas.
    pub schema: Option<String>,
    pub name: String,
    /// Kind: table, view and so on.
    pub kind: String,
    /// Rows as the database estimates them.
    pub estimated_rows: Option<i64>,
    pub comment: Option<String>,
}

/// One table or view with its parts.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Table {
    #[serde(flatten)]
    pub entry: TableEntry,
    pub columns: Vec<TableColumn>,
    pub constraints: Vec<Definition>,
    pub indexes: Vec<Definition>,
    /// Statement that made the table, where the database keeps it.
    pub statement: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct TableColumn {
    pub name: String,
    pub r#type: String,
    pub nullable: bool,
    /// Expression of the default value.
    pub default: Option<String>,
    pub comment: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Definition {
    pub name: String,
    pub definition: String,
}

/// Results of the queries that describe tables. Each row begins with schema and table.
pub struct Parts {
    /// Schema, name, kind, estimated rows, comment, statement.
    pub tables: ResultSet,
    /// Schema, table, name, type, nullable, default, comment.
    pub columns: ResultSet,
    /// Schema, table, name, definition.
    pub constraints: ResultSet,
    pub indexes: ResultSet,
}

impl Parts {
    /// Returns true if a limit left something out.
    pub fn are_cut(&self) -> bool {
        [&self.tables, &self.columns, &self.constraints, &self.indexes]
            .iter()
            .any(|part| part.cut_by.is_some())
    }

    /// Joins the parts to tables, in the order of their query.
    pub fn join(self) -> Vec<Table> {
        let mut places = BTreeMap::new();
        let mut tables = Vec::new();
        for row in self.tables.rows {
            places.insert(key(&row), tables.len());
            let statement = text(&row, 5);
            tables.push(Table {
                entry: entry(&row),
                columns: Vec::new(),
                constraints: Vec::new(),
                indexes: Vec::new(),
                statement,
            });
        }
        for row in self.columns.rows {
            let Some(table) = places.get(&key(&row)).and_then(|place| tables.get_mut(*place)) else {
                continue;
            };
            table.columns.push(TableColumn {
                name: text(&row, 2).unwrap_or_default(),
                r#type: text(&row, 3).unwrap_or_default(),
                nullable: row.get(4).is_some_and(|value| *value == true || *value == 1),
                default: text(&row, 5),
                comment: text(&row, 6),
            });
        }
        for (rows, is_index) in [(self.constraints.rows, false), (self.indexes.rows, true)] {
            for row in rows {
                let Some(table) = places.get(&key(&row)).and_then(|place| tables.get_mut(*place)) else {
                    continue;
                };
                let list = if is_index { &mut table.indexes } else { &mut table.constraints };
                list.push(Definition {
                    name: text(&row, 2).unwrap_or_default(),
                    definition: text(&row, 3).unwrap_or_default(),
                });
            }
        }
        tables
    }
}

/// Returns the entry of a row: schema, name, kind, estimated rows, comment.
pub fn entry(row: &[Value]) -> TableEntry {
    TableEntry {
        schema: text(row, 0),
        name: text(row, 1).unwrap_or_default(),
        kind: text(row, 2).unwrap_or_default(),
        estimated_rows: row.get(3).and_then(Value::as_i64),
        comment: text(row, 4),
    }
}

fn key(row: &[Value]) -> (Option<String>, Option<String>) {
    (text(row, 0), text(row, 1))
}

fn text(row: &[Value], at: usize) -> Option<String> {
    row.get(at).and_then(Value::as_str).map(str::to_owned)
}

impl TableEntry {
    /// Returns the name with its schema.
    pub fn full_name(&self) -> String {
        match &self.schema {
            Some(schema) => format!("{schema}.{}", self.name),
            None => self.name.clone(),
        }
    }

    /// Returns a line for a list.
    pub fn line(&self) -> String {
        let rows = self.estimated_rows.map(|rows| format!(", about {rows} rows")).unwrap_or_default();
        format!("{} ({}{rows}){}\n", self.full_name(), self.kind, remark(self.comment.as_deref()))
    }
}

impl Table {
    /// Returns the table for a model: its name, then a line for each part.
    pub fn text(&self) -> String {
        let mut text = self.entry.line();
        for column in &self.columns {
            let null = if column.nullable { "" } else { " NOT NULL" };
            let default =
                column.default.as_ref().map(|default| format!(" DEFAULT {default}")).unwrap_or_default();
            let comment = remark(column.comment.as_deref());
            // Writing to a string cannot fail.
            let _ = writeln!(text, "  {} {}{null}{default}{comment}", column.name, column.r#type);
        }
        for constraint in &self.constraints {
            let _ = writeln!(text, "  {}: {}", constraint.name, constraint.definition);
        }
        for index in &self.indexes {
            let _ = writeln!(text, "  {}: {}", index.name, index.definition);
        }
        text
    }
}

fn remark(comment: Option<&str>) -> String {
    comment.map(|comment| format!(": {}", comment.replace('\n', " "))).unwrap_or_default()
}
