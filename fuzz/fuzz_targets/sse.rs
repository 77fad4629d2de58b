//! Server-sent events: a stream in pieces is the stream in one piece, what is kept is bounded, and what
//! is written is read.

#![no_main]

use std::time::Duration;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use proxy::http::sse::{Event, Outgoing, Parser, TooLarge, comment, write};

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    cap: u16,
    cuts: &'a [u8],
    written: Vec<Written<'a>>,
    stream: &'a [u8],
}

#[derive(Arbitrary, Debug)]
struct Written<'a> {
    event: Option<&'a str>,
    id: Option<&'a str>,
    retry: Option<u32>,
    data: Option<&'a str>,
    comment: Option<&'a str>,
}

#[derive(PartialEq, Debug)]
struct Read {
    events: Vec<Event>,
    /// None after an error.
    standing: Option<(Option<String>, Option<Duration>)>,
}

fuzz_target!(|input: Input<'_>| {
    let stream = match input.stream.is_empty() {
        true => input.cuts,
        false => input.stream,
    };
    pieces(stream, usize::from(input.cap), input.cuts);
    round_trip(&input.written, input.cuts);
});

fn pieces(stream: &[u8], cap: usize, cuts: &[u8]) -> Read {
    let whole = read(cap, std::iter::once(stream));
    assert_eq!(whole, read(cap, stream.chunks(1)), "byte by byte");
    let mut rest = stream;
    let mut cut = cuts.iter().cycle().take(stream.len() + cuts.len()).map(|cut| {
        let (piece, after) = rest.split_at(rest.len().min(usize::from(*cut % 17)));
        rest = after;
        piece
    });
    let mut parts: Vec<&[u8]> = cut.by_ref().collect();
    drop(cut);
    parts.push(rest);
    assert_eq!(whole, read(cap, parts.into_iter()), "in pieces");
    for event in &whole.events {
        // Each byte that is not UTF-8 becomes three.
        assert!(event.data.len() <= cap && event.event.len() <= 3 * cap);
    }
    whole
}

fn read<'a>(cap: usize, pieces: impl Iterator<Item = &'a [u8]>) -> Read {
    let mut parser = Parser::new(cap);
    let mut events = Vec::new();
    for piece in pieces {
        if let Err(TooLarge { cap: told }) = parser.feed(piece, &mut events) {
            assert_eq!(told, cap);
            return Read { events, standing: None };
        }
    }
    let id = parser.last_event_id().map(ToOwned::to_owned);
    assert!(id.as_ref().is_none_or(|id| id.len() <= 1024 && !id.contains(['\0', '\r', '\n'])));
    Read { events, standing: Some((id, parser.retry())) }
}

fn round_trip(written: &[Written<'_>], cuts: &[u8]) {
    let mut out = Vec::new();
    let mut expected = Vec::new();
    let (mut id, mut retry) = (String::new(), None);
    let clean = |text: &str| text.replace(['\r', '\n', '\0'], "");
    for one in written {
        if let Some(text) = one.comment {
            comment(&mut out, text);
        }
        let wait = one.retry.map(|ms| Duration::from_millis(ms.into()));
        write(&mut out, &Outgoing { event: one.event, id: one.id, retry: wait, data: one.data });
        if let Some(own) = one.id.map(clean).filter(|own| own.len() <= 1024) {
            id = own;
        }
        retry = wait.or(retry);
        if let Some(data) = one.data {
            let data = data.replace("\r\n", "\n").replace('\r', "\n").replace('\0', "");
            expected.push(Event { event: one.event.map(clean).unwrap_or_default(), data });
        }
    }
    let read = pieces(&out, 1 << 20, cuts);
    assert_eq!(read.events, expected);
    assert_eq!(read.standing.unwrap(), ((!id.is_empty()).then_some(id), retry));
}
