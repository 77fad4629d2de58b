//! The record of executions from outside.

mod begin_and_end;
pub mod killed;
mod outage;
mod reading;
mod retention;
mod store;

pub fn tests() -> Vec<libtest_mimic::Trial> {
    [begin_and_end::tests(), killed::tests(), outage::tests(), reading::tests(), retention::tests()]
        .into_iter()
        .flatten()
        .collect()
}
