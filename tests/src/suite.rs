//! Trials and how they are run: each on every backend of this machine, with a report at the end of
//! what ran and what did not. Speaks libtest's command line, so `cargo nextest` can drive it too.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use libtest_mimic::{Arguments, Completion, Failed, Trial};

use crate::backend::Backend;
use crate::guardian;

/// One trial: a name, where it runs, and what it does.
#[derive(Clone, Copy)]
pub struct Case {
    pub name: &'static str,
    pub on: On,
    pub run: fn(Backend) -> Pin<Box<dyn Future<Output = ()>>>,
}

/// Where a trial runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum On {
    /// On each backend: the gateway must not behave otherwise.
    Every,
    /// Once, on SQLite: what it checks does not touch the backend.
    Once,
    /// Only where replicas can share state.
    Postgres,
}

/// A list of [`Case`]s: `cases![Every: a, b; Once: c]`.
#[macro_export]
macro_rules! cases {
    ($($on:ident: $($case:ident),+ $(,)?);+ $(;)?) => {
        &[$($($crate::Case {
            name: stringify!($case),
            on: $crate::On::$on,
            run: |backend| Box::pin($case(backend)),
        }),+),+]
    };
}

/// A trial that takes longer is reported as hanging.
const LONGEST: Duration = Duration::from_secs(240);

/// What was not run, and why: ends the trial without a failure, unless everything is required.
pub struct NotRun(String);

/// Ends this trial because something that it needs is not on this machine.
pub fn not_run(reason: impl Into<String>) -> ! {
    std::panic::panic_any(NotRun(reason.into()))
}

/// Runs the suites as the command line says, and ends what the harness started.
pub fn main(suites: &[(&'static str, &'static [Case])]) -> ExitCode {
    let arguments = Arguments::from_args();
    let report = Arc::new(Report::default());
    let required = std::env::var("TRUNKLINE_REQUIRE_BACKENDS").is_ok_and(|value| value == "1");
    let mut trials = Vec::new();
    for backend in Backend::ALL {
        let missing = backend.available().err();
        for (suite, cases) in suites {
            for case in cases.iter().filter(|case| case.runs_on(backend)) {
                let name = format!("{}::{suite}::{}", backend.name(), case.name);
                let (case, report, missing) = (*case, report.clone(), missing.clone());
                trials.push(Trial::ignorable_test(name.clone(), move || match missing {
                    Some(reason) if required => Err(Failed::from(format!("not run: {reason}"))),
                    Some(reason) => Ok(report.skip(backend, &name, reason)),
                    None => run(case, backend, &name, &report, required),
                }));
            }
        }
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    guardian::finish();
    if !arguments.list {
        report.print();
    }
    conclusion.exit_code()
}

/// Remembers the gateway's last lines for the failure that is being reported on this thread.
pub fn note_last_lines(lines: &[String]) {
    let last = &lines[lines.len().saturating_sub(40)..];
    NOTES.with_borrow_mut(|notes| {
        notes.push_str("\nlast lines of the gateway:\n  ");
        notes.push_str(&last.join("\n  "));
    });
}

thread_local! {
    /// Where the panic happened, and what is good to know beside its message.
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
    static NOTES: RefCell<String> = const { RefCell::new(String::new()) };
}

impl Case {
    fn runs_on(&self, backend: Backend) -> bool {
        match self.on {
            On::Every => true,
            On::Once => backend == Backend::Sqlite,
            On::Postgres => backend == Backend::Postgres,
        }
    }
}

fn run(
    case: Case,
    backend: Backend,
    name: &str,
    report: &Report,
    required: bool,
) -> Result<Completion, Failed> {
    keep_places_of_panics();
    NOTES.with_borrow_mut(String::clear);
    let ended = catch_unwind(AssertUnwindSafe(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime can be made");
        runtime.block_on(async {
            if tokio::time::timeout(LONGEST, (case.run)(backend)).await.is_err() {
                panic!("not ended after {LONGEST:?}");
            }
        });
    }));
    let Err(payload) = ended else {
        report.count(backend);
        return Ok(Completion::Completed);
    };
    let payload = match payload.downcast::<NotRun>() {
        Ok(reason) if required => return Err(Failed::from(format!("not run: {}", reason.0))),
        Ok(reason) => return Ok(report.skip(backend, name, reason.0)),
        Err(payload) => payload,
    };
    report.count(backend);
    let message = payload
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or("a panic without a message");
    Err(Failed::from(format!("{}: {message}{}", PLACE.with_borrow(String::clone), NOTES.take())))
}

/// Panics are reported with their trial, not in between the others' lines.
fn keep_places_of_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|panic| {
            let place = panic.location().map(ToString::to_string).unwrap_or_default();
            PLACE.with_borrow_mut(|kept| *kept = place);
        }));
    });
}

/// What ran on which backend.
#[derive(Default)]
struct Report {
    ran: Mutex<BTreeMap<Backend, u32>>,
    skipped: Mutex<BTreeMap<(Backend, String), Vec<String>>>,
}

impl Report {
    fn count(&self, backend: Backend) {
        *self.ran.lock().expect("counting does not panic").entry(backend).or_default() += 1;
    }

    fn skip(&self, backend: Backend, name: &str, reason: String) -> Completion {
        let mut skipped = self.skipped.lock().expect("counting does not panic");
        skipped.entry((backend, reason.clone())).or_default().push(name.to_owned());
        Completion::ignored_with(reason)
    }

    fn print(&self) {
        let ran = self.ran.lock().expect("counting does not panic");
        for backend in Backend::ALL {
            let count = ran.get(&backend).copied().unwrap_or_default();
            eprintln!("{}: {count} trials ran.", backend.title());
        }
        for ((backend, reason), names) in self.skipped.lock().expect("counting does not panic").iter() {
            let which = if names.len() > 3 { format!("{} trials", names.len()) } else { names.join(", ") };
            eprintln!("{}: not run: {which}: {reason}.", backend.title());
        }
        eprintln!();
    }
}
