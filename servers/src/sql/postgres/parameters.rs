//! JSON values as bound parameters of PostgreSQL, in the text form of the parameter's type.

use bytes::BytesMut;
use serde_json::Value;
use tokio_postgres::types::{Format, IsNull, Kind, ToSql, Type, to_sql_checked};

use crate::sql::json::from_base64;
use crate::sql::{Kind as Failure, SqlError};

/// A parameter in text form; none is NULL.
#[derive(Debug)]
pub struct Parameter(Option<String>);

impl ToSql for Parameter {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        Ok(match &self.0 {
            None => IsNull::Yes,
            Some(text) => {
                out.extend_from_slice(text.as_bytes());
                IsNull::No
            }
        })
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    to_sql_checked!();
}

/// Returns the parameters of a statement.
///
/// # Errors
/// A count that is not that of the places, and a value that has no text form of its type.
pub fn read(params: &[Value], types: &[Type]) -> Result<Vec<Parameter>, SqlError> {
    if params.len() != types.len() {
        let message =
            format!("the statement has {} parameters, and `params` has {}", types.len(), params.len());
        return Err(SqlError::new(Failure::Invalid, message));
    }
    let pairs = params.iter().zip(types).enumerate();
    pairs
        .map(|(index, (value, of))| {
            let text = text(value, of);
            text.map(Parameter).map_err(|mistake| {
                SqlError::new(
                    Failure::Invalid,
                    format!("params[{index}] is {mistake}, and ${} is a {of}", index + 1),
                )
            })
        })
        .collect()
}

fn text(value: &Value, of: &Type) -> Result<Option<String>, &'static str> {
    let base = match of.kind() {
        Kind::Domain(base) => base,
        _ => of,
    };
    let takes_documents = matches!(*base, Type::JSON | Type::JSONB | Type::TEXT | Type::VARCHAR);
    Ok(Some(match value {
        Value::Null => return Ok(None),
        Value::Bool(truth) => truth.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) if *base == Type::BYTEA && !text.starts_with("\\x") => {
            let bytes = from_base64(text).ok_or("a string that is not base64")?;
            bytes.iter().fold("\\x".to_owned(), |hex, byte| format!("{hex}{byte:02x}"))
        }
        Value::String(text) => text.clone(),
        Value::Array(items) => match base.kind() {
            Kind::Array(element) if !matches!(*base, Type::BOX_ARRAY) => array(items, element)?,
            _ if takes_documents => value.to_string(),
            _ => return Err("an array"),
        },
        Value::Object(_) if takes_documents => value.to_string(),
        Value::Object(_) => return Err("an object"),
    }))
}

/// Writes an array literal: `{1,NULL,"a b"}`.
fn array(items: &[Value], element: &Type) -> Result<String, &'static str> {
    let is_of_documents = matches!(*element, Type::JSON | Type::JSONB);
    let item = |item: &Value| {
        Ok(match item {
            Value::Array(items) if !is_of_documents => array(items, element)?,
            item => match text(item, element)? {
                None => "NULL".to_owned(),
                Some(text) => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
            },
        })
    };
    let items: Vec<_> = items.iter().map(item).collect::<Result<_, &str>>()?;
    Ok(format!("{{{}}}", items.join(",")))
}
