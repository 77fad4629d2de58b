//! How the fixture was told to behave: its arguments, and nothing of the protocol.

use std::time::Duration;

#[derive(Debug)]
pub struct Manner {
    pub speaks: Speaks,
    pub die_on_probe: bool,
    pub silent_on_probe: bool,
    pub slow: Duration,
    pub tools: u32,
    pub chatty: bool,
    pub log: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    Legacy,
    Modern,
    Dual,
}

pub fn read(arguments: &[String]) -> Manner {
    let mut manner = Manner {
        speaks: Speaks::Dual,
        die_on_probe: false,
        silent_on_probe: false,
        slow: Duration::ZERO,
        tools: 0,
        chatty: false,
        log: None,
    };
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().unwrap_or_else(|| panic!("{argument} needs a value")).clone();
        match argument.as_str() {
            "--era" => manner.speaks = speaks(&value()),
            "--die-on-probe" => manner.die_on_probe = true,
            "--silent-on-probe" => manner.silent_on_probe = true,
            "--slow" => {
                manner.slow = Duration::from_millis(value().parse().expect("--slow takes milliseconds"))
            }
            "--tools" => manner.tools = value().parse().expect("--tools takes a number"),
            "--chatty" => manner.chatty = true,
            "--log" => manner.log = Some(value()),
            other => panic!("no such argument: {other}"),
        }
    }
    manner
}

fn speaks(era: &str) -> Speaks {
    match era {
        "legacy" => Speaks::Legacy,
        "modern" => Speaks::Modern,
        "dual" => Speaks::Dual,
        other => panic!("no such era: {other}"),
    }
}
