//! Tables of a SQLite database, from its schema and the pragmas that describe it.

use serde_json::{Value, json};

use super::Guarded;
use crate::sql::catalog::{Parts, Selection, Table, TableEntry, entry};
use crate::sql::{Bounds, SqlError};

/// Tables and views that are shown: neither those of SQLite itself nor those behind virtual tables. `?1` is a name
/// or null.
const SHOWN: &str = "pragma_table_list t WHERE t.schema = 'main' AND t.type IN ('table', 'view', 'virtual') \
    AND t.name NOT GLOB 'sqlite_*' AND (?1 IS NULL OR t.name = ?1 COLLATE NOCASE)";

const TABLES: &str = "NULL, t.name, CASE t.type WHEN 'virtual' THEN 'virtual table' ELSE t.type END, NULL, NULL, \
    (SELECT s.sql FROM sqlite_schema s WHERE s.name = t.name AND s.type IN ('table', 'view'))";

impl Guarded {
    /// Returns the tables.
    ///
    /// # Errors
    /// Those of a query.
    pub fn tables(&mut self, of: &Selection, bounds: &Bounds) -> Result<(Vec<TableEntry>, bool), SqlError> {
        let listed = self.query(&format!("SELECT {TABLES} FROM {SHOWN} ORDER BY 2"), &params(of), bounds)?;
        Ok((listed.rows.iter().map(|row| entry(row)).collect(), listed.cut_by.is_some()))
    }

    /// Returns tables with their parts, and true if a limit left something out.
    ///
    /// # Errors
    /// Those of a query.
    pub fn described(&mut self, of: &Selection, bounds: &Bounds) -> Result<(Vec<Table>, bool), SqlError> {
        let params = params(of);
        let shown = format!("(SELECT t.name FROM {SHOWN}) t");
        let columns = format!(
            "SELECT NULL, t.name, x.name, x.type, x.\"notnull\" = 0 AND x.pk = 0, x.dflt_value, NULL \
             FROM {shown}, pragma_table_xinfo(t.name) x WHERE x.hidden <> 1 ORDER BY 2, x.cid"
        );
        let constraints = format!(
            "SELECT NULL, t.name, 'primary key', 'PRIMARY KEY (' || group_concat(x.name, ', ') || ')' \
             FROM {shown}, pragma_table_xinfo(t.name) x WHERE x.pk > 0 GROUP BY t.name \
             UNION ALL SELECT NULL, t.name, 'foreign key', 'FOREIGN KEY (' || group_concat(f.\"from\", ', ') || \
             ') REFERENCES ' || f.\"table\" || coalesce(' (' || group_concat(f.\"to\", ', ') || ')', '') \
             FROM {shown}, pragma_foreign_key_list(t.name) f GROUP BY t.name, f.id ORDER BY 2, 3 DESC"
        );
        let indexes = format!(
            "SELECT NULL, t.name, s.name, s.sql FROM {shown} \
             JOIN sqlite_schema s ON s.type = 'index' AND s.tbl_name = t.name AND s.sql IS NOT NULL ORDER BY 2, 3"
        );
        let parts = Parts {
            tables: self.query(&format!("SELECT {TABLES} FROM {SHOWN} ORDER BY 2"), &params, bounds)?,
            columns: self.query(&columns, &params, bounds)?,
            constraints: self.query(&constraints, &params, bounds)?,
            indexes: self.query(&indexes, &params, bounds)?,
        };
        let is_cut = parts.are_cut();
        Ok((parts.join(), is_cut))
    }
}

fn params(of: &Selection) -> [Value; 1] {
    [json!(of.table)]
}
