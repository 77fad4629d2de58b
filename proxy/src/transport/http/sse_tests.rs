use super::*;

/// The events of a stream that comes in pieces of this size, and the parser behind it.
fn parse(input: &[u8], piece: usize) -> (Vec<Event>, Parser) {
    let (mut parser, mut events) = (Parser::new(1 << 20), Vec::new());
    for piece in input.chunks(piece) {
        parser.feed(piece, &mut events).unwrap();
    }
    (events, parser)
}

fn data(input: &str) -> Vec<String> {
    let whole: Vec<_> = parse(input.as_bytes(), usize::MAX).0.into_iter().map(|event| event.data).collect();
    for piece in 1..5 {
        let pieces: Vec<_> = parse(input.as_bytes(), piece).0.into_iter().map(|event| event.data).collect();
        assert_eq!(pieces, whole, "in pieces of {piece}: {input:?}");
    }
    whole
}

#[test]
fn the_examples_of_the_standard() {
    assert_eq!(data("data: YHOO\ndata: +2\ndata: 10\n\n"), ["YHOO\n+2\n10"]);
    assert_eq!(
        data(": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n"),
        ["first event", "second event"]
    );
    assert_eq!(data("data\n\ndata\ndata\n\ndata:"), ["", "\n"]);
    assert_eq!(data("data:test\n\ndata: test\n\n"), ["test", "test"]);
}

#[test]
fn every_line_end_and_the_mark_at_the_start() {
    for end in ["\n", "\r", "\r\n"] {
        assert_eq!(data(&"data: a\ndata: b\n\ndata: c\n\n".replace('\n', end)), ["a\nb", "c"], "{end:?}");
    }
    assert_eq!(data("data: a\r\n\r\ndata: b\r\rdata: c\n\r"), ["a", "b", "c"]);
    assert_eq!(data("\u{feff}data: a\n\n\u{feff}data: b\n\n"), ["a"]);
    assert_eq!(data("\u{feff}\u{feff}data: a\n\n"), Vec::<String>::new());
}

#[test]
fn fields_that_are_known_and_others() {
    let (events, parser) = parse(
        b"event: endpoint\ndata: /x?y=1:2\nid: 7\nretry: 2500\nfoo: bar\ndata : no\n Data: no\n\ndata: z\n\n",
        3,
    );
    assert_eq!(events[0], Event { event: "endpoint".into(), data: "/x?y=1:2".into() });
    assert!(!events[0].is_message() && events[1].is_message());
    assert_eq!(parser.last_event_id(), Some("7"));
    assert_eq!(parser.retry(), Some(Duration::from_millis(2500)));
}

#[test]
fn ids_count_with_their_event_and_odd_ones_not_at_all() {
    let last = |input: &str| parse(input.as_bytes(), 2).1.last_event_id().map(str::to_owned);
    assert_eq!(last("id: 1\n\n").as_deref(), Some("1"), "an event without data counts");
    assert_eq!(last("id: 1\ndata: x\n\nid: 2\ndata: y\n").as_deref(), Some("1"), "2 is not complete");
    assert_eq!(last("id: 1\ndata: x\n\nid\ndata: y\n\n"), None, "an empty id takes it back");
    assert_eq!(last("id: 1\ndata: x\n\nid: 2\u{0}\ndata: y\n\n").as_deref(), Some("1"));
    assert_eq!(last(&format!("id: {}\ndata: y\n\n", "x".repeat(2000))), None);
    for odd in ["retry: 1s\n\n", "retry:\n\n", "retry: -1\n\n", "retry: 99999999999999999999999\n\n"] {
        assert_eq!(parse(odd.as_bytes(), 9).1.retry(), None, "{odd:?}");
    }
}

#[test]
fn text_that_is_no_utf_8_is_read_all_the_same() {
    assert_eq!(parse(b"data: a\xffb\n\n", 1).0[0].data, "a\u{fffd}b");
    assert_eq!(data("data: 世界 🙂\n\n"), ["世界 🙂"]);
}

#[test]
fn what_is_too_large_is_an_error_and_not_memory() {
    for flood in ["data: xxxxxxxx\n", "xxxxxxxx", ":xxxxxxxx", "id: xxxxxxxx"] {
        let (mut parser, mut events) = (Parser::new(1000), Vec::new());
        let over = (0..1000).find_map(|_| parser.feed(flood.as_bytes(), &mut events).err());
        assert_eq!(over, Some(TooLarge { cap: 1000 }), "{flood:?}");
        assert!(events.is_empty());
    }
    let (mut parser, mut events) = (Parser::new(1000), Vec::new());
    for _ in 0..1000 {
        parser.feed(b"data: one of many small ones\n\n", &mut events).unwrap();
    }
    assert_eq!(events.len(), 1000);
}

#[test]
fn what_is_written_is_read_again() {
    for text in ["{\"a\": 1}", "", "a\nb", "a\r\nb\rc\n", "\n", "x\n\ny", " padded", "data: x"] {
        let mut out = Vec::new();
        comment(&mut out, "keep\nalive");
        let retry = Some(Duration::from_millis(1500));
        write(&mut out, &Outgoing { event: Some("mes\nsage"), id: Some("a\r\n7"), retry, data: Some(text) });
        let (events, parser) = parse(&out, 3);
        let plain = text.replace("\r\n", "\n").replace('\r', "\n");
        assert_eq!(events, [Event { event: "message".into(), data: plain }]);
        assert_eq!((parser.last_event_id(), parser.retry()), (Some("a7"), retry));
    }
    let mut out = Vec::new();
    write(&mut out, &Outgoing { id: Some("0"), ..Outgoing::default() });
    let (events, parser) = parse(&out, 1);
    assert!(events.is_empty() && parser.last_event_id() == Some("0"));
}
