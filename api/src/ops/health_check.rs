//! Health check of a gateway by one plain HTTP request, without the cost of a runtime and a TLS stack.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::ExitCode;
use std::time::Duration;

/// Checks that the gateway at an address is healthy.
pub fn check(url: &str) -> ExitCode {
    match ask(url) {
        Ok(Answer { status, body }) if status == OK => {
            println!("{body}");
            ExitCode::SUCCESS
        }
        Ok(Answer { status, .. }) => {
            eprintln!("trunkline: {url} is not healthy: status {status}");
            ExitCode::FAILURE
        }
        Err(problem) => {
            eprintln!("trunkline: {url} is not healthy: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// Returns true if a gateway answers at an address, healthy or not.
pub fn is_there(url: &str) -> bool {
    // Another server may listen there; a gateway's answer names its database.
    ask(url).is_ok_and(|answer| answer.body.contains("\"database\":"))
}

const OK: &str = "200";

struct Answer {
    status: String,
    body: String,
}

fn ask(url: &str) -> Result<Answer, String> {
    let authority = url.strip_prefix("http://").ok_or("an http:// address is wanted (MCP_GATEWAY_URL)")?;
    let authority = authority.split('/').next().unwrap_or(authority);
    let with_port = if authority.contains(':') { authority.to_owned() } else { format!("{authority}:80") };
    let mut stream = TcpStream::connect(&with_port).map_err(|error| error.to_string())?;
    let patience = Some(Duration::from_secs(5));
    stream
        .set_read_timeout(patience)
        .and_then(|()| stream.set_write_timeout(patience))
        .map_err(|error| error.to_string())?;
    let request = format!("GET /health HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(|error| error.to_string())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(|error| error.to_string())?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("the answer is not HTTP")?;
    let status = head.lines().next().unwrap_or_default().split(' ').nth(1).unwrap_or_default();
    Ok(Answer { status: status.to_owned(), body: body.to_owned() })
}
