//! Command line arguments of `trunkline server database`, and the variable with the address.

use std::time::Duration;

use super::{AllowedQuery, DatabaseSettings, MISSING, source};
use crate::sql::postgres;

/// Variable with the address of the database, which may have a password and so is no argument.
pub const ADDRESS: &str = "DATABASE_URL";

/// Role that is made unless another is named.
const ROLE: &str = "trunkline_reader";

const KNOWN: &str = "--schemas A,B, --allowed-queries FILE, --max-rows N, --timeout-seconds N, --allow-unsafe-role, \
                     --print-role-sql[=ROLE]";

/// The arguments, read.
pub struct Arguments {
    pub settings: DatabaseSettings,
    /// Name of the role whose SQL is to be printed, and nothing else done.
    print_role_sql: Option<String>,
}

/// Reads arguments and variables.
///
/// # Errors
/// What is wrong and what to give.
pub fn read(arguments: &[String], variable: &dyn Fn(&str) -> Option<String>) -> Result<Arguments, String> {
    let mut settings =
        DatabaseSettings { url: variable(ADDRESS).filter(|url| !url.is_empty()), ..Default::default() };
    let mut print_role_sql = None;
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let (name, given) = match argument.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (argument.as_str(), None),
        };
        let mut value = |what: &str| {
            let value = given.clone().or_else(|| rest.next().cloned()).filter(|value| !value.is_empty());
            value.ok_or_else(|| format!("{name} needs {what}"))
        };
        match name {
            "--schemas" => {
                let names = value("the names of schemas, with commas between them")?;
                settings.schemas = names.split(',').map(|name| name.trim().to_owned()).collect();
                if settings.schemas.iter().any(String::is_empty) {
                    return Err("--schemas has an empty name; give names with commas between them".to_owned());
                }
            }
            "--allowed-queries" => {
                let file = value("a file in TOML")?;
                let text = std::fs::read_to_string(&file).map_err(|error| {
                    format!("the file {file} of --allowed-queries cannot be read: {error}")
                })?;
                let queries = AllowedQuery::read(&text)
                    .map_err(|error| format!("the file {file} of --allowed-queries is wrong: {error}"))?;
                settings.allowed_queries = Some(queries);
            }
            "--max-rows" => {
                settings.default_rows = number(name, &value("a number of rows")?, 10_000)?;
                settings.most_rows = settings.most_rows.min(settings.default_rows);
            }
            "--timeout-seconds" => {
                let seconds = number(name, &value("a number of seconds")?, 300)?;
                settings.timeout = Duration::from_secs(seconds as u64);
            }
            "--allow-unsafe-role" if given.is_none() => settings.allow_unsafe_role = true,
            "--print-role-sql" => print_role_sql = Some(given.unwrap_or_else(|| ROLE.to_owned())),
            _ => return Err(format!("`{argument}` is not an argument of this server; there are {KNOWN}")),
        }
    }
    Ok(Arguments { settings, print_role_sql })
}

fn number(name: &str, text: &str, most: usize) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (1..=most).contains(number));
    number.ok_or_else(|| format!("{name} must be a whole number from 1 to {most}, not `{text}`"))
}

/// Returns the SQL that makes a role for the database of the arguments, if `--print-role-sql` is one of them.
///
/// # Errors
/// What is wrong and what to give.
pub fn role_sql(
    arguments: &[String],
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<String>, String> {
    let Arguments { settings, print_role_sql } = read(arguments, variable)?;
    let Some(role) = print_role_sql else { return Ok(None) };
    let url = settings.url.as_deref().ok_or(MISSING)?;
    if source::sqlite_file(url).is_some() {
        return Err("SQLite has no roles; a file of it is opened for reading".to_owned());
    }
    let database = postgres::database_name(url)?;
    Ok(Some(postgres::role_sql(&role, &database, &settings.schemas)))
}
