//! Tools of the server `database`.

use std::sync::LazyLock;

use framework::{Answer, Effect, Output, Tools};
use protocol::provider::{RequestContext, ToolDefinition};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Database, DatabaseSettings, allowed};
use crate::sql::catalog::{Selection, Table, TableEntry};
use crate::sql::{Kind, ResultSet, SqlError};

/// Arguments of `query`.
#[derive(Deserialize, JsonSchema)]
struct Query {
    /// One statement that reads: SELECT, VALUES, or WITH … SELECT. Write values as $1, $2 and give them in params.
    #[schemars(length(min = 1, max = 100_000), regex(pattern = r"^[^\x00-\x08\x0b\x0c\x0e-\x1f]*$"))]
    sql: String,
    /// Values for $1, $2 and so on, in this order.
    #[serde(default)]
    #[schemars(length(max = 100))]
    params: Vec<Value>,
    /// Most rows of the result.
    #[schemars(range(min = 1, max = 10_000))]
    max_rows: Option<i32>,
}

/// Arguments of `run_query`.
#[derive(Deserialize, JsonSchema)]
struct RunQuery {
    /// Name of the query.
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[a-z][a-z0-9_]*$"))]
    name: String,
    /// Values of the query's parameters, by name.
    #[serde(default)]
    #[schemars(extend("maxProperties" = 100))]
    params: Map<String, Value>,
    /// Most rows of the result.
    #[schemars(range(min = 1, max = 10_000))]
    max_rows: Option<i32>,
}

/// Arguments of `list_tables` and `get_schema`.
#[derive(Deserialize, JsonSchema)]
struct OfSchema {
    /// Schema of PostgreSQL; all that can be read if it is left out.
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[^\x00-\x1f]*$"))]
    schema: Option<String>,
}

/// Arguments of `describe_table`.
#[derive(Deserialize, JsonSchema)]
struct OfTable {
    /// Name of the table or view, without its schema.
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[^\x00-\x1f]*$"))]
    table: String,
    /// Schema of PostgreSQL; needed where two schemas have a table of this name.
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[^\x00-\x1f]*$"))]
    schema: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct TableList {
    tables: Vec<TableEntry>,
    /// True if there are more tables than are shown.
    cut: bool,
}

#[derive(Serialize, JsonSchema)]
struct SchemaText {
    tables: Vec<Table>,
    /// True if something was left out.
    cut: bool,
}

static READING: LazyLock<Tools<Database>> = LazyLock::new(|| {
    let tools = Tools::new().add(
        "query",
        "Query",
        "Runs one SQL statement that reads, and returns its rows. Nothing can be changed. Give values in params, not \
         in the text.",
        Effect::Read,
        |server: &Database, context, arguments| Box::pin(server.query(context, arguments)),
    );
    with_catalog(tools)
});

static ALLOWED: LazyLock<Tools<Database>> = LazyLock::new(|| {
    let tools = Tools::new().add(
        "run_query",
        "Run query",
        "Runs one of these queries by its name, and returns its rows.",
        Effect::Read,
        |server: &Database, context, arguments| Box::pin(server.run_query(context, arguments)),
    );
    with_catalog(tools)
});

fn with_catalog(tools: Tools<Database>) -> Tools<Database> {
    tools
        .add(
            "list_tables",
            "List tables",
            "Lists the tables and views that can be read.",
            Effect::Read,
            |server: &Database, context, arguments| Box::pin(server.list_tables(context, arguments)),
        )
        .add(
            "describe_table",
            "Describe table",
            "Shows the columns, keys and indexes of one table.",
            Effect::Read,
            |server: &Database, context, arguments| Box::pin(server.describe_table(context, arguments)),
        )
        .add(
            "get_schema",
            "Get schema",
            "Shows all tables with their columns and keys. In a large database ask list_tables first.",
            Effect::Read,
            |server: &Database, context, arguments| Box::pin(server.get_schema(context, arguments)),
        )
}

/// Returns the tools: `query`, or `run_query` where only some queries are allowed.
pub fn of(settings: &DatabaseSettings) -> &'static Tools<Database> {
    if settings.allowed_queries.is_some() { &ALLOWED } else { &READING }
}

/// Returns the definitions, with what the settings add to them.
pub fn definitions(settings: &DatabaseSettings) -> Vec<ToolDefinition> {
    let mut definitions = of(settings).definitions();
    for definition in &mut definitions {
        if let Some(max_rows) = definition.input_schema.pointer_mut("/properties/max_rows") {
            max_rows["default"] = json!(settings.default_rows);
            max_rows["maximum"] = json!(settings.most_rows.min(10_000));
        }
        if definition.name == "run_query" {
            let queries = settings.allowed_queries.as_deref().unwrap_or_default();
            let names: Vec<_> = queries.iter().map(|query| &query.name).collect();
            definition.input_schema["properties"]["name"]["enum"] = json!(names);
            let lines: String = queries.iter().map(allowed::AllowedQuery::line).collect();
            definition.description =
                format!("{}\n{lines}", definition.description).trim_end().to_owned().into();
        }
        if settings.allow_unsafe_role && matches!(&*definition.name, "query" | "run_query") {
            let warning = "Warning: the operator allowed a role that can do more than read.";
            definition.description = format!("{} {warning}", definition.description).into();
        }
    }
    definitions
}

impl Database {
    async fn query(&self, context: &RequestContext<'_>, asked: Query) -> Output<ResultSet> {
        let bounds = self.bounds(context, asked.max_rows);
        answer(self.source()?.query(asked.sql, asked.params, &bounds).await?)
    }

    async fn run_query(&self, context: &RequestContext<'_>, asked: RunQuery) -> Output<ResultSet> {
        let queries = self.settings.allowed_queries.as_deref().unwrap_or_default();
        let query = queries.iter().find(|query| query.name == asked.name);
        let query = query.ok_or_else(|| {
            let names: Vec<_> = queries.iter().map(|query| query.name.as_str()).collect();
            SqlError::new(Kind::Invalid, format!("there is no query `{}`", asked.name))
                .hint(format!("use one of {}", names.join(", ")))
        })?;
        let params = query.bind(asked.params)?;
        let bounds = self.bounds(context, asked.max_rows);
        answer(self.source()?.query(query.sql.clone(), params, &bounds).await?)
    }

    async fn list_tables(&self, context: &RequestContext<'_>, asked: OfSchema) -> Output<TableList> {
        let bounds = self.catalog_bounds(context);
        let selection = Selection { schema: asked.schema, table: None };
        let (tables, cut) = self.source()?.tables(selection, &bounds).await?;
        let mut text = count(tables.len());
        tables.iter().for_each(|table| text.push_str(&table.line()));
        Ok(Answer::with_text(TableList { tables, cut }, marked(text, cut)))
    }

    async fn describe_table(&self, context: &RequestContext<'_>, asked: OfTable) -> Output<Table> {
        let bounds = self.catalog_bounds(context);
        let selection = Selection { schema: asked.schema, table: Some(asked.table.clone()) };
        let (mut tables, cut) = self.source()?.described(selection, &bounds).await?;
        match (tables.pop(), tables.as_slice()) {
            (Some(table), []) => {
                let text = marked(table.text(), cut);
                Ok(Answer::with_text(table, text))
            }
            (Some(last), others) => {
                let names: Vec<_> =
                    others.iter().chain([&last]).map(|table| table.entry.full_name()).collect();
                let message = format!("there are {}", names.join(" and "));
                Err(SqlError::new(Kind::Invalid, message).hint("give `schema` too").into())
            }
            (None, _) => {
                let message = format!("there is no table `{}` that can be read", asked.table);
                Err(SqlError::new(Kind::NotFound, message).hint("list_tables shows the tables").into())
            }
        }
    }

    async fn get_schema(&self, context: &RequestContext<'_>, asked: OfSchema) -> Output<SchemaText> {
        let bounds = self.catalog_bounds(context);
        let selection = Selection { schema: asked.schema, table: None };
        let (tables, cut) = self.source()?.described(selection, &bounds).await?;
        let mut text = count(tables.len());
        tables.iter().for_each(|table| text.push_str(&table.text()));
        Ok(Answer::with_text(SchemaText { tables, cut }, marked(text, cut)))
    }
}

fn answer(result: ResultSet) -> Output<ResultSet> {
    let text = result.text();
    Ok(Answer::with_text(result, text))
}

fn count(tables: usize) -> String {
    if tables == 1 { "1 table.\n".to_owned() } else { format!("{tables} tables.\n") }
}

fn marked(mut text: String, cut: bool) -> String {
    if cut {
        text.push_str("There is more than is shown; ask for one schema, or describe_table for one table.\n");
    }
    text
}
