//! Tables of PostgreSQL that the role can read, from the system catalogs.

use serde_json::{Value, json};

use super::Postgres;
use crate::sql::catalog::{Parts, Selection, Table, TableEntry, entry};
use crate::sql::{Bounds, SqlError};

/// Relations that are shown; a partition is shown as its table. `$1` are schemas or null, `$2` is a name or null.
const SHOWN: &str = "pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
    AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition \
    AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' \
    AND ($1::text[] IS NULL OR n.nspname = ANY($1)) AND ($2::text IS NULL OR c.relname = $2) \
    AND has_schema_privilege(n.oid, 'USAGE') AND has_any_column_privilege(c.oid, 'SELECT')";

const TABLES: &str = "n.nspname, c.relname, CASE c.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' \
    WHEN 'f' THEN 'foreign table' WHEN 'p' THEN 'partitioned table' ELSE 'table' END, \
    CASE WHEN c.relkind IN ('r', 'm') AND c.reltuples >= 0 THEN c.reltuples::int8 END, \
    obj_description(c.oid, 'pg_class'), NULL";

const COLUMNS: &str = "n.nspname, c.relname, a.attname, format_type(a.atttypid, a.atttypmod), NOT a.attnotnull, \
    pg_get_expr(d.adbin, d.adrelid), col_description(c.oid, a.attnum)";

impl Postgres {
    /// Returns the tables that the role can read.
    ///
    /// # Errors
    /// Those of a query.
    pub async fn tables(&self, of: &Selection, bounds: &Bounds) -> Result<(Vec<TableEntry>, bool), SqlError> {
        let sql = format!("SELECT {TABLES} FROM {SHOWN} ORDER BY 1, 2");
        let listed = self.query(&sql, &self.params(of), bounds).await?;
        Ok((listed.rows.iter().map(|row| entry(row)).collect(), listed.cut_by.is_some()))
    }

    /// Returns tables with their parts, and true if a limit left something out.
    ///
    /// # Errors
    /// Those of a query.
    pub async fn described(&self, of: &Selection, bounds: &Bounds) -> Result<(Vec<Table>, bool), SqlError> {
        let params = self.params(of);
        let tables = format!("SELECT {TABLES} FROM {SHOWN} ORDER BY 1, 2");
        let columns = format!(
            "SELECT {COLUMNS} FROM {SHOWN} JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 \
             AND NOT a.attisdropped AND has_column_privilege(c.oid, a.attnum, 'SELECT') \
             LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum ORDER BY 1, 2, a.attnum"
        );
        let constraints = format!(
            "SELECT n.nspname, c.relname, k.conname, pg_get_constraintdef(k.oid) FROM {SHOWN} \
             JOIN pg_constraint k ON k.conrelid = c.oid ORDER BY 1, 2, k.contype = 'p' DESC, 3"
        );
        let indexes = format!(
            "SELECT n.nspname, c.relname, x.relname, pg_get_indexdef(x.oid) FROM {SHOWN} \
             JOIN pg_index i ON i.indrelid = c.oid JOIN pg_class x ON x.oid = i.indexrelid \
             WHERE NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = x.oid AND k.contype IN ('p', 'u', 'x')) \
             ORDER BY 1, 2, 3"
        );
        let parts = Parts {
            tables: self.query(&tables, &params, bounds).await?,
            columns: self.query(&columns, &params, bounds).await?,
            constraints: self.query(&constraints, &params, bounds).await?,
            indexes: self.query(&indexes, &params, bounds).await?,
        };
        let is_cut = parts.are_cut();
        Ok((parts.join(), is_cut))
    }

    fn params(&self, of: &Selection) -> [Value; 2] {
        let schemas = match (&of.schema, self.schemas()) {
            (Some(schema), []) => json!([schema]),
            (Some(schema), allowed) if allowed.contains(schema) => json!([schema]),
            (Some(_), _) => json!([]),
            (None, []) => Value::Null,
            (None, allowed) => json!(allowed),
        };
        [schemas, json!(of.table)]
    }
}
