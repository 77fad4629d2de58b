//! `/v1/mcp/executions/export`: the record as NDJSON or CSV, streamed page by page.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use entity::record::ExecutionFilter;
use futures_util::stream;
use protocol::{Scope, TenantId};
use serde_json::{Value, json};

use crate::app::App;
use crate::http::problem::Problem;
use crate::rest::acting::Acting;
use crate::rest::describe::{Always, Filtered};
use crate::rest::executions::{ExecutionBody, ExecutionFilters, Filter, flush};
use crate::rest::input::Parameters;
use crate::rest::input::parameters::one_of;

/// Rows of one read.
const PAGE: u64 = 200;

/// Columns of the CSV, members of an execution.
const COLUMNS: [&str; 22] = [
    "id",
    "requestId",
    "traceId",
    "kind",
    "serverId",
    "serverSlug",
    "tool",
    "agentId",
    "callerKind",
    "outcome",
    "startedAt",
    "finishedAt",
    "durationMs",
    "queueMs",
    "upstreamMs",
    "attempts",
    "argumentsRedacted",
    "argumentsDigest",
    "resultBytes",
    "tokensIn",
    "tokensOut",
    "tokensEstimated",
];

/// Columns of the error.
const OF_ERROR: [&str; 3] = ["code", "message", "rule"];

#[derive(Clone, Copy)]
enum Format {
    Ndjson,
    Csv,
}

impl Format {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "ndjson" => Some(Format::Ndjson),
            "csv" => Some(Format::Csv),
            _ => None,
        }
    }

    fn media_type(self) -> &'static str {
        match self {
            Format::Ndjson => "application/x-ndjson",
            Format::Csv => "text/csv; charset=utf-8",
        }
    }
}

/// Exports executions, newest first: NDJSON with an execution on each line, or CSV with a header (RFC 4180).
///
/// The filters are those of the list. A text of the CSV that a spreadsheet would take as a formula begins with `'`.
/// The export ends with the oldest execution; one that is cut off was interrupted. It leaves an audit event. Needs
/// `executions:read`.
#[utoipa::path(
    get, path = "/v1/mcp/executions/export", tag = "executions",
    params(
        ("format" = Option<String>, Query, description = "`ndjson` when not given.", pattern = "^(ndjson|csv)$"),
        ExecutionFilters,
    ),
    responses(
        (status = 200, description = "The executions.", content(
            (String = "application/x-ndjson"),
            (String = "text/csv"),
        )),
        Always, Filtered
    )
)]
pub async fn export_executions(
    acting: Acting,
    State(app): State<Arc<App>>,
    query: Parameters,
) -> Result<Response, Problem> {
    acting.require(Scope::ExecutionsRead)?;
    let mut query = query.read()?;
    let format =
        query.optional("format", one_of(Format::parse, &["ndjson", "csv"])).unwrap_or(Format::Ndjson);
    let filter = Filter::read(&mut query);
    query.finish()?;
    flush(&app).await?;
    let rows = acting.rows(&app);
    let filter = filter.resolve(rows).await?;
    let details = json!({ "format": format.media_type() });
    let audited =
        rows.audit("executions.export", acting.tenant().to_string(), details, &acting.actor()).await;
    audited.map_err(Problem::of("tenant"))?;
    let name = match format {
        Format::Ndjson => "executions.ndjson",
        Format::Csv => "executions.csv",
    };
    let headers = [
        (header::CONTENT_TYPE, format.media_type().to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")),
    ];
    let tenant = acting.tenant();
    Ok((headers, Body::from_stream(pages(app, tenant, filter, format))).into_response())
}

/// Position of an export.
enum At {
    Start,
    After(String),
    End,
}

/// Reads page after page. An agent that does not exist has none.
fn pages(
    app: Arc<App>,
    tenant: TenantId,
    filter: Option<ExecutionFilter>,
    format: Format,
) -> impl stream::Stream<Item = Result<Bytes, entity::DbError>> {
    stream::try_unfold((app, At::Start), move |(app, at)| {
        let filter = filter.clone();
        async move {
            let (mut out, cursor) = match (at, format) {
                (At::Start, Format::Csv) => (line(COLUMNS.into_iter().chain(OF_ERROR)), None),
                (At::Start, Format::Ndjson) => (Vec::new(), None),
                (At::After(cursor), _) => (Vec::new(), Some(cursor)),
                (At::End, _) => return Ok(None),
            };
            let Some(filter) = filter else { return Ok(Some((out.into(), (app, At::End)))) };
            let page = app.db.tenant(tenant).executions(&filter, PAGE, cursor.as_deref()).await?;
            for row in page.items {
                let row = json!(ExecutionBody::from(row));
                match format {
                    Format::Ndjson => out.extend(format!("{row}\n").bytes()),
                    Format::Csv => out.extend(csv(&row)),
                }
            }
            let next = page.next_cursor.map_or(At::End, At::After);
            Ok(Some((out.into(), (app, next))))
        }
    })
}

fn csv(row: &Value) -> Vec<u8> {
    let cells =
        COLUMNS.iter().map(|name| &row[*name]).chain(OF_ERROR.iter().map(|name| &row["error"][*name]));
    let texts: Vec<String> = cells.map(cell).collect();
    line(texts.iter().map(String::as_str))
}

/// Writes a value as a cell. Spreadsheets run a text that begins like a formula.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) if text.starts_with(['=', '+', '-', '@', '\t', '\r']) => format!("'{text}"),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn line<'a>(cells: impl Iterator<Item = &'a str>) -> Vec<u8> {
    let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    writer.write_record(cells).expect("a vector takes any record");
    writer.into_inner().expect("a vector takes any record")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_and_are_no_formulas() {
        let row = json!({
            "id": "exe_1", "tool": "=cmd|' /C calc'!A0", "serverSlug": "a,b", "agentId": null, "attempts": 2,
            "argumentsRedacted": "{\"a\":\"x\ny\"}", "error": { "code": "c", "message": "-1 \"quoted\"", "rule": null },
        });
        let text = String::from_utf8(csv(&row)).unwrap();
        assert!(text.starts_with("exe_1,,,,,\"a,b\",'=cmd|' /C calc'!A0,,"), "{text}");
        assert!(text.contains(",\"{\"\"a\"\":\"\"x\ny\"\"}\","), "{text}");
        assert!(text.ends_with(",c,\"'-1 \"\"quoted\"\"\",\r\n"), "{text}");
    }
}
