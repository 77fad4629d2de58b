//! Steps: numbered without gaps in the order of commits, each once, a refused one beside good ones.

use entity::collab::NewStep;
use entity::collab::NewTask;
use protocol::Code;
use serde_json::json;

use super::{agent, replica, with_task};
use crate::ground::Ground;

tests!(
    BOTH: steps_of_many_writers_have_no_gap, a_reader_never_misses_a_number, a_step_sent_again_is_the_same_step,
        a_refused_step_leaves_the_others;
    POSTGRES: a_locked_task_holds_up_no_other;
);

fn step(ground: &Ground, task: &str, id: &str) -> NewStep {
    NewStep {
        tenant: ground.ours,
        task: task.to_owned(),
        agent: "ada".to_owned(),
        sees_all: false,
        step_id: id.to_owned(),
        data: json!({ "step": id }),
    }
}

async fn append(ground: &Ground, steps: &[NewStep]) -> Vec<Result<(i64, bool), Code>> {
    let answers = ground.db.operator().append_steps(steps).await.unwrap();
    let plain = |answer: Option<Result<entity::collab::Numbered, protocol::Refusal>>| {
        let answer = answer.expect("no other transaction holds the task");
        answer.map(|numbered| (numbered.seq, numbered.repeated)).map_err(|refusal| refusal.code)
    };
    answers.into_iter().map(plain).collect()
}

async fn steps_of_many_writers_have_no_gap(ground: Ground) {
    for task in ["t", "u"] {
        with_task(&ground, task).await;
    }
    let mut writers = tokio::task::JoinSet::new();
    for number in 0..4 {
        let db = replica(&ground).await;
        let steps: Vec<NewStep> =
            (0..60).map(|at| step(&ground, ["t", "u"][at % 2], &format!("{number}/{at}"))).collect();
        writers.spawn(async move {
            for steps in steps.chunks(5) {
                let mut left = steps.to_vec();
                while !left.is_empty() {
                    let answers = db.operator().append_steps(&left).await.unwrap();
                    let undone = answers.iter().zip(&left).filter(|(answer, _)| answer.is_none());
                    left = undone.map(|(_, step)| step.clone()).collect();
                }
            }
            db.close().await;
        });
    }
    writers.join_all().await;
    for task in ["t", "u"] {
        let (events, newest) =
            ground.db.tenant(ground.ours).events_after(&agent("eve"), task, 0, 500).await.unwrap();
        let numbers: Vec<i64> = events.iter().map(|event| event.seq).collect();
        assert_eq!(numbers, (1..=121).collect::<Vec<_>>());
        assert_eq!(newest, 121);
        let mut ids: Vec<_> = events.iter().filter_map(|event| event.step_id.clone()).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 120, "each once");
    }
}

async fn a_reader_never_misses_a_number(ground: Ground) {
    let ada = with_task(&ground, "t").await;
    let (db, reader) = (replica(&ground).await, replica(&ground).await);
    let steps: Vec<NewStep> = (0..200).map(|at| step(&ground, "t", &at.to_string())).collect();
    let writer = tokio::spawn(async move {
        for steps in steps.chunks(3) {
            db.operator().append_steps(steps).await.unwrap();
        }
        db.close().await;
    });
    let mut seen = 0;
    while seen < 201 {
        let (events, newest) = reader.tenant(ground.ours).events_after(&ada, "t", seen, 7).await.unwrap();
        for event in events {
            seen += 1;
            assert_eq!(event.seq, seen);
        }
        assert!(newest >= seen);
    }
    writer.await.unwrap();
    reader.close().await;
}

async fn a_step_sent_again_is_the_same_step(ground: Ground) {
    with_task(&ground, "t").await;
    let (one, two) = (step(&ground, "t", "1"), step(&ground, "t", "2"));
    let answers = append(&ground, &[one.clone(), two.clone(), one.clone()]).await;
    assert_eq!(answers, [Ok((2, false)), Ok((3, false)), Ok((2, true))]);
    assert_eq!(append(&ground, std::slice::from_ref(&two)).await, [Ok((3, true))]);
    let other = NewStep { data: json!({ "step": "other" }), ..two.clone() };
    let stranger = NewStep { agent: "bob".to_owned(), ..two };
    assert_eq!(append(&ground, &[other, stranger]).await, [Err(Code::Conflict), Err(Code::Conflict)]);
    let (events, _) = ground.db.tenant(ground.ours).events_after(&agent("ada"), "t", 1, 9).await.unwrap();
    assert_eq!(
        events.iter().map(|event| event.data.clone()).collect::<Vec<_>>(),
        [one.data, json!({ "step": "2" })]
    );
}

async fn a_refused_step_leaves_the_others(ground: Ground) {
    with_task(&ground, "t").await;
    let restricted = NewTask { access: entity::collab::Access::Participants, ..NewTask::new("r", "R") };
    ground.db.tenant(ground.ours).create_task(&agent("eve"), restricted).await.unwrap();
    let nul = NewStep { data: json!({ "a": ["\0"] }), ..step(&ground, "t", "nul") };
    let theirs = NewStep { tenant: ground.theirs, ..step(&ground, "t", "theirs") };
    let answers = append(
        &ground,
        &[
            nul,
            step(&ground, "missing", "1"),
            step(&ground, "t", "1"),
            theirs,
            step(&ground, "r", "1"),
            step(&ground, "t", "\0"),
            step(&ground, "t", "2"),
        ],
    )
    .await;
    assert_eq!(
        answers,
        [
            Err(Code::ValidationFailed),
            Err(Code::NotFound),
            Ok((2, false)),
            Err(Code::NotFound),
            Err(Code::NotFound),
            Err(Code::ValidationFailed),
            Ok((3, false)),
        ]
    );
    assert_eq!(append(&ground, &[]).await, []);
}

async fn a_locked_task_holds_up_no_other(ground: Ground) {
    with_task(&ground, "t").await;
    with_task(&ground, "u").await;
    use sea_orm::{ConnectionTrait, TransactionTrait};
    let held = ground.db.connection().begin().await.unwrap();
    held.execute_unprepared("UPDATE tasks SET title = 'held' WHERE id = 't'").await.unwrap();
    let db = replica(&ground).await;
    let answers =
        db.operator().append_steps(&[step(&ground, "t", "1"), step(&ground, "u", "1")]).await.unwrap();
    assert!(
        answers[0].is_none() && matches!(answers[1], Some(Ok(numbered)) if numbered.seq == 2),
        "{answers:?}"
    );
    held.rollback().await.unwrap();
    assert_eq!(append(&ground, &[step(&ground, "t", "1")]).await, [Ok((2, false))]);
    db.close().await;
}
