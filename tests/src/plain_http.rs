//! An ordinary HTTP/1.1 client, as most are written: it keeps its connection, sends head and body in
//! separate packets, and reads the answer when all is sent. Blocking.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

/// How long an answer may take on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// How the body of a request is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sending {
    /// Head and body in one packet.
    Together,
    /// The body some milliseconds after the head.
    Apart,
    /// In chunks of 1,000 bytes, without a length.
    Chunked,
    /// Not before the server has answered `Expect: 100-continue`.
    Expecting,
}

pub struct PlainHttp {
    host: String,
    connection: Option<BufReader<TcpStream>>,
    /// Connections made so far.
    pub connections: usize,
}

#[derive(Debug)]
pub struct PlainAnswer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl PlainAnswer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(present, _)| present.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("not JSON: {error}: {self:?}"))
    }

    /// Whether the server announced that it ends the connection.
    pub fn closes(&self) -> bool {
        self.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

impl PlainHttp {
    /// For a server at this `http://host:port`.
    pub fn new(url: &str) -> PlainHttp {
        let host = url.trim_start_matches("http://").trim_end_matches('/').to_owned();
        PlainHttp { host, connection: None, connections: 0 }
    }

    /// Sends one POST and reads its answer. An error is an answer that was lost.
    pub fn post(
        &mut self,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
        sending: Sending,
    ) -> std::io::Result<PlainAnswer> {
        let mut head = format!("POST {path} HTTP/1.1\r\n");
        let mut all: Vec<(String, String)> = vec![("content-type".into(), "application/json".into())];
        if !headers.iter().any(|(name, _)| *name == "host") {
            all.push(("host".into(), self.host.clone()));
        }
        all.extend(headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        match sending {
            Sending::Chunked => all.push(("transfer-encoding".into(), "chunked".into())),
            _ => all.push(("content-length".into(), body.len().to_string())),
        }
        if sending == Sending::Expecting {
            all.push(("expect".into(), "100-continue".into()));
        }
        all.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
        head += "\r\n";
        let exchanged = self.exchange(head.as_bytes(), body, sending);
        if exchanged.as_ref().map_or(true, PlainAnswer::closes) {
            self.connection = None;
        }
        exchanged
    }

    fn exchange(&mut self, head: &[u8], body: &[u8], sending: Sending) -> std::io::Result<PlainAnswer> {
        if self.connection.is_none() {
            let stream = TcpStream::connect(&self.host)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            self.connection = Some(BufReader::new(stream));
            self.connections += 1;
        }
        let connection = self.connection.as_mut().expect("it was made");
        match sending {
            Sending::Together => {
                let whole = [head, body].concat();
                connection.get_mut().write_all(&whole)?;
            }
            Sending::Apart => {
                connection.get_mut().write_all(head)?;
                std::thread::sleep(Duration::from_millis(5));
                connection.get_mut().write_all(body)?;
            }
            Sending::Chunked => {
                connection.get_mut().write_all(head)?;
                for chunk in body.chunks(1000) {
                    let chunk = [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat();
                    connection.get_mut().write_all(&chunk)?;
                }
                connection.get_mut().write_all(b"0\r\n\r\n")?;
            }
            Sending::Expecting => {
                connection.get_mut().write_all(head)?;
                let first = answer(connection)?;
                if first.status != 100 {
                    return Ok(first);
                }
                connection.get_mut().write_all(body)?;
            }
        }
        answer(connection)
    }
}

fn answer(connection: &mut BufReader<TcpStream>) -> std::io::Result<PlainAnswer> {
    let broken = |what: &str| std::io::Error::new(std::io::ErrorKind::UnexpectedEof, what.to_owned());
    let mut line = String::new();
    connection.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| broken(&format!("no status line but {line:?}")))?;
    let mut headers = Vec::new();
    loop {
        line.clear();
        connection.read_line(&mut line)?;
        match line.trim_end().split_once(':') {
            Some((name, value)) => headers.push((name.to_owned(), value.trim().to_owned())),
            None if line.trim_end().is_empty() && !line.is_empty() => break,
            None => return Err(broken(&format!("no header but {line:?}"))),
        }
    }
    let mut answer = PlainAnswer { status, headers, body: Vec::new() };
    let length = answer.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    answer.body.resize(length, 0);
    connection.read_exact(&mut answer.body)?;
    Ok(answer)
}
