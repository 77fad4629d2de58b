//! What a client keeps for the gateway: it opens for what it was sealed for, and for nothing else; what
//! was not sealed never opens.

#![no_main]

use api::fuzzing::Seals;
use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    bound: Vec<&'a str>,
    other: Vec<&'a str>,
    text: &'a str,
    changes: Vec<(u16, u8)>,
    cut: u8,
    more: &'a str,
    made_up: &'a str,
}

const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const ANOTHER: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHiA=";

fuzz_target!(|input: Input<'_>| {
    let seals = Seals::of(KEY).unwrap();
    let open = |sealed: &str| seals.open(&input.bound, sealed);
    assert_eq!(open(input.made_up), None);
    let sealed = seals.seal(&input.bound, input.text);
    assert!(sealed.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
    assert_eq!(open(&sealed).as_deref(), Some(input.text));
    assert_ne!(sealed, seals.seal(&input.bound, input.text), "equal texts are told apart");

    if input.other != input.bound {
        assert_eq!(seals.open(&input.other, &sealed), None, "bound to something else");
    }
    let joined = input.bound.concat();
    if input.bound != [&*joined] {
        assert_eq!(seals.open(&[&*joined], &sealed), None, "its parts put together");
    }
    assert_eq!(Seals::of(ANOTHER).unwrap().open(&input.bound, &sealed), None, "another key");

    let mut changed = sealed.clone().into_bytes();
    for (at, to) in &input.changes {
        let at = usize::from(*at) % changed.len();
        changed[at] = *to & 0x7f;
    }
    changed.truncate(changed.len().saturating_sub(usize::from(input.cut)));
    changed.extend_from_slice(input.more.as_bytes());
    let changed = String::from_utf8(changed).unwrap();
    if changed != sealed {
        assert_eq!(open(&changed), None, "changed");
    }
    assert_eq!(open(&format!("{sealed}=")), None);
});
