//! Servers: slugs, hiding, revisions, lists, declarations.

use std::collections::BTreeMap;

use entity::{DbError, ManagedBy, NewServer, Page, SecretsPatch, ServerFilter, ServerPatch, Transport};
use serde_json::json;

use crate::ground::{Ground, stdio};

tests!(
    BOTH: a_server_reads_back_as_it_was_registered, a_slug_is_unique_until_its_server_is_deleted,
        one_slug_at_a_time_also_at_once, an_own_server_hides_the_global_one,
        what_is_launched_raises_the_revision, an_old_revision_is_refused, a_list_is_filtered_and_searched,
        a_declaration_is_kept_in_step, a_declaration_takes_no_slug_from_others,
        a_built_in_keeps_what_the_operator_set, a_nul_is_refused;
);

async fn a_server_reads_back_as_it_was_registered(ground: Ground) {
    let ours = ground.db.tenant(ground.ours);
    let mut new = stdio("time");
    new.settings.description = Some("Zeit für alle".to_owned());
    new.settings.tags = vec!["a".to_owned(), "b".to_owned()];
    new.settings.headers = BTreeMap::from([("X-Key".to_owned(), "s".to_owned())]).into();
    new.settings.timeout_ms = Some(1 << 40);
    new.settings.max_concurrency = Some(3);
    new.settings.retry = Some(json!({ "attempts": 2 }));
    let made = ours.create_server(new, &ground.actor).await.unwrap();
    let found = ours.find_server(made.id).await.unwrap();
    assert_eq!(format!("{found:?}"), format!("{made:?}"));
    assert_eq!(
        found.settings.env.expose().unwrap(),
        &BTreeMap::from([("TOKEN".to_owned(), "hunter2".to_owned())])
    );
    assert_eq!(found.settings.args, ["mcp-server-time", "--local-timezone=UTC"]);
    assert_eq!((found.revision, found.settings.era.as_str(), found.settings.enabled), (1, "auto", true));
    assert_eq!((found.managed_by, found.transport), (ManagedBy::Rest, Transport::Stdio));
    assert_eq!(ours.find_server_by_slug("time").await.unwrap().id, made.id);
}

async fn a_slug_is_unique_until_its_server_is_deleted(ground: Ground) {
    let (ours, theirs) = (ground.db.tenant(ground.ours), ground.db.tenant(ground.theirs));
    let operator = ground.db.operator();
    let first = ours.create_server(stdio("time"), &ground.actor).await.unwrap();
    theirs.create_server(stdio("time"), &ground.actor).await.unwrap();
    operator.create_server(stdio("time"), &ground.actor).await.unwrap();
    let taken = DbError::SlugTaken { slug: "time".to_owned() };
    let again = ground.changes_nothing(ours.create_server(stdio("time"), &ground.actor)).await;
    assert_eq!(again.unwrap_err(), taken);
    assert_eq!(operator.create_server(stdio("time"), &ground.actor).await.unwrap_err(), taken);

    ours.delete_server(first.id, &ground.actor).await.unwrap();
    assert_eq!(ours.find_server(first.id).await.unwrap_err(), DbError::NotFound);
    assert_eq!(ours.delete_server(first.id, &ground.actor).await.unwrap_err(), DbError::NotFound);
    let second = ours.create_server(stdio("time"), &ground.actor).await.unwrap();
    assert_ne!(second.id, first.id);
    ours.delete_server(second.id, &ground.actor).await.unwrap();
    ours.create_server(stdio("time"), &ground.actor).await.unwrap();
}

async fn one_slug_at_a_time_also_at_once(ground: Ground) {
    let attempts: Vec<_> = (0..10)
        .map(|_| {
            let (db, tenant, actor) = (ground.db.clone(), ground.ours, ground.actor.clone());
            tokio::spawn(async move { db.tenant(tenant).create_server(stdio("race"), &actor).await })
        })
        .collect();
    let mut made = 0;
    for attempt in attempts {
        match attempt.await.unwrap() {
            Ok(_) => made += 1,
            Err(error) => assert_eq!(error, DbError::SlugTaken { slug: "race".to_owned() }),
        }
    }
    assert_eq!(made, 1);
}

async fn an_own_server_hides_the_global_one(ground: Ground) {
    let (ours, theirs) = (ground.db.tenant(ground.ours), ground.db.tenant(ground.theirs));
    let global = ground.db.operator().create_server(stdio("time"), &ground.actor).await.unwrap();
    assert_eq!(ours.find_server_by_slug("time").await.unwrap().id, global.id);
    let own = ours.create_server(stdio("time"), &ground.actor).await.unwrap();
    assert_eq!(ours.find_server_by_slug("time").await.unwrap().id, own.id);
    assert_eq!(theirs.find_server_by_slug("time").await.unwrap().id, global.id);
    assert_eq!(ours.find_server(global.id).await.unwrap().tenant, None);

    let shown = ours.servers(&ServerFilter::default(), Page::default()).await.unwrap();
    assert_eq!((shown.total, shown.items[0].id), (1, own.id));
    let all: Vec<_> = ours.visible_servers().await.unwrap().into_iter().map(|server| server.id).collect();
    assert_eq!(all, [own.id, global.id]);

    let patch = ServerPatch { enabled: Some(false), ..Default::default() };
    let refused = ours.update_server(global.id, patch, None, &ground.actor).await;
    assert_eq!(refused.unwrap_err(), DbError::OperatorOnly);
    assert_eq!(ours.delete_server(global.id, &ground.actor).await.unwrap_err(), DbError::OperatorOnly);
    ours.delete_server(own.id, &ground.actor).await.unwrap();
    assert_eq!(ours.find_server_by_slug("time").await.unwrap().id, global.id);
}

async fn what_is_launched_raises_the_revision(ground: Ground) {
    let ours = ground.db.tenant(ground.ours);
    let id = ours.create_server(stdio("time"), &ground.actor).await.unwrap().id;
    let text = |text: &str| Some(Some(text.to_owned()));
    let secrets =
        |value: &str| Some(SecretsPatch::Merge(BTreeMap::from([("K".to_owned(), Some(value.to_owned()))])));
    let raising = [
        ServerPatch { command: text("npx"), ..Default::default() },
        ServerPatch { args: Some(vec![]), ..Default::default() },
        ServerPatch { env: secrets("v"), ..Default::default() },
        ServerPatch { cwd: text("/tmp"), ..Default::default() },
        ServerPatch { url: text("https://example.com/mcp"), ..Default::default() },
        ServerPatch { headers: secrets("v"), ..Default::default() },
        ServerPatch { transport: Some(Transport::StreamableHttp), ..Default::default() },
    ];
    for (at, patch) in (2..).zip(raising) {
        let changed = ours.update_server(id, patch.clone(), None, &ground.actor).await.unwrap();
        assert_eq!(changed.revision, at, "{patch:?}");
        let same = ground.changes_nothing(ours.update_server(id, patch, None, &ground.actor)).await.unwrap();
        assert_eq!(same.revision, at);
    }
    let before = ours.find_server(id).await.unwrap();
    assert_eq!(before.settings.env.names().collect::<Vec<_>>(), ["K", "TOKEN"]);
    let keeping = ServerPatch {
        name: Some("Clock".to_owned()),
        description: text("d"),
        category: text("c"),
        tags: Some(vec!["t".to_owned()]),
        version: text("2"),
        enabled: Some(false),
        timeout_ms: Some(Some(5)),
        start_timeout_ms: Some(Some(6)),
        max_concurrency: Some(Some(7)),
        retry: Some(Some(json!(null))),
        idle_timeout_ms: Some(Some(8)),
        era: Some("legacy".to_owned()),
        ..Default::default()
    };
    let after = ours.update_server(id, keeping, Some(before.revision), &ground.actor).await.unwrap();
    assert_eq!(
        (after.revision, after.settings.name.as_str(), after.settings.enabled),
        (before.revision, "Clock", false)
    );
    assert_eq!((after.settings.idle_timeout_ms, after.settings.retry.clone()), (Some(8), None));
    let cleared = ServerPatch { idle_timeout_ms: Some(None), command: Some(None), ..Default::default() };
    let after = ours.update_server(id, cleared, None, &ground.actor).await.unwrap();
    assert_eq!(
        (after.settings.idle_timeout_ms, after.settings.command, after.revision),
        (None, None, before.revision + 1)
    );
}

async fn an_old_revision_is_refused(ground: Ground) {
    let ours = ground.db.tenant(ground.ours);
    let id = ours.create_server(stdio("time"), &ground.actor).await.unwrap().id;
    let patch = |command: &str| ServerPatch { command: Some(Some(command.to_owned())), ..Default::default() };
    ours.update_server(id, patch("npx"), Some(1), &ground.actor).await.unwrap();
    let stale = ground.changes_nothing(ours.update_server(id, patch("sh"), Some(1), &ground.actor)).await;
    assert_eq!(stale.unwrap_err(), DbError::RevisionMismatch);
    assert_eq!(ours.find_server(id).await.unwrap().settings.command.as_deref(), Some("npx"));
}

async fn a_list_is_filtered_and_searched(ground: Ground) {
    let ours = ground.db.tenant(ground.ours);
    let mut time = stdio("time");
    time.settings.category = Some("clocks".to_owned());
    time.settings.tags = vec!["Zeitzone".to_owned()];
    let mut web = NewServer::new("web".parse().unwrap(), "100% ÄRGER_los", Transport::StreamableHttp);
    web.settings.description = Some("back\\slash".to_owned());
    ours.create_server(time, &ground.actor).await.unwrap();
    ground.db.operator().create_server(web, &ground.actor).await.unwrap();
    let found = async |filter: ServerFilter| {
        let servers = ours.servers(&filter, Page::default()).await.unwrap();
        assert_eq!(servers.total as usize, servers.items.len());
        servers.items.iter().map(|server| server.slug.as_str().to_owned()).collect::<Vec<_>>().join(" ")
    };
    let search = |text: &str| ServerFilter { search: Some(text.to_owned()), ..Default::default() };
    assert_eq!(found(ServerFilter::default()).await, "time web");
    assert_eq!(
        found(ServerFilter { category: Some("clocks".to_owned()), ..Default::default() }).await,
        "time"
    );
    let http = ServerFilter { transport: Some(Transport::StreamableHttp), ..Default::default() };
    assert_eq!(found(http).await, "web");
    for (text, slugs) in [
        ("ZEIT", "time"),
        ("ärger", "web"),
        ("%", "web"),
        ("_", "web"),
        ("k\\s", "web"),
        ("", "time web"),
        ("T%e", ""),
        ("nothing", ""),
    ] {
        assert_eq!(found(search(text)).await, slugs, "{text}");
    }
}

async fn a_declaration_is_kept_in_step(ground: Ground) {
    let operator = ground.db.operator();
    let declare =
        |servers: Vec<NewServer>| operator.declare_servers(ManagedBy::Config, servers, &ground.actor);
    let both = || vec![stdio("one"), stdio("two")];
    assert_eq!(declare(both()).await.unwrap(), 2);
    assert_eq!(ground.changes_nothing(declare(both())).await.unwrap(), 0);
    let one = ground.db.tenant(ground.ours).find_server_by_slug("one").await.unwrap();
    assert_eq!((one.managed_by, one.revision), (ManagedBy::Config, 1));
    let patch = ServerPatch { enabled: Some(false), ..Default::default() };
    let refused = operator.update_server(one.id, patch, None, &ground.actor).await;
    assert_eq!(refused.unwrap_err(), DbError::ManagedByConfig);
    assert_eq!(operator.delete_server(one.id, &ground.actor).await.unwrap_err(), DbError::ManagedByConfig);

    let mut renamed = stdio("one");
    renamed.settings.name = "Uno".to_owned();
    renamed.settings.enabled = false;
    let secret = stdio("two").env([("TOKEN", "other")]);
    assert_eq!(declare(vec![renamed.clone(), secret.clone()]).await.unwrap(), 2);
    assert_eq!(ground.changes_nothing(declare(vec![secret.clone(), renamed])).await.unwrap(), 0);
    let now = ground.db.tenant(ground.ours).find_server(one.id).await.unwrap();
    assert_eq!((now.revision, now.settings.enabled, now.settings.name.as_str()), (1, false, "Uno"));

    assert_eq!(ground.changes("server.delete", declare(vec![secret])).await, 1);
    assert_eq!(ground.db.tenant(ground.ours).find_server(one.id).await.unwrap_err(), DbError::NotFound);
    let two = ground.db.tenant(ground.ours).visible_servers().await.unwrap().remove(0);
    assert_eq!((two.slug.as_str(), two.revision), ("two", 2));
    assert_eq!(declare(both()).await.unwrap(), 2);
    assert_eq!(declare(vec![]).await.unwrap(), 2);
    assert!(ground.db.tenant(ground.ours).visible_servers().await.unwrap().is_empty());
}

async fn a_declaration_takes_no_slug_from_others(ground: Ground) {
    let operator = ground.db.operator();
    let taken = DbError::SlugTaken { slug: "time".to_owned() };
    operator.create_server(stdio("time"), &ground.actor).await.unwrap();
    let servers = vec![stdio("other"), stdio("time")];
    let refused = operator.declare_servers(ManagedBy::Config, servers, &ground.actor);
    assert_eq!(ground.changes_nothing(refused).await.unwrap_err(), taken);
    assert_eq!(ground.db.tenant(ground.ours).visible_servers().await.unwrap().len(), 1);
    let twice = vec![stdio("twice"), stdio("twice")];
    let refused = operator.declare_servers(ManagedBy::Builtin, twice, &ground.actor).await;
    assert_eq!(refused.unwrap_err(), DbError::SlugTaken { slug: "twice".to_owned() });
    ground.db.tenant(ground.ours).create_server(stdio("own"), &ground.actor).await.unwrap();
    operator.declare_servers(ManagedBy::Config, vec![stdio("own")], &ground.actor).await.unwrap();
}

async fn a_built_in_keeps_what_the_operator_set(ground: Ground) {
    let operator = ground.db.operator();
    let calculator = || NewServer::new("calculator".parse().unwrap(), "Calculator", Transport::Builtin);
    let declare = || operator.declare_servers(ManagedBy::Builtin, vec![calculator()], &ground.actor);
    declare().await.unwrap();
    let id = ground.db.tenant(ground.ours).visible_servers().await.unwrap()[0].id;
    let off = ServerPatch { enabled: Some(false), timeout_ms: Some(Some(5)), ..Default::default() };
    operator.update_server(id, off, None, &ground.actor).await.unwrap();
    let renamed = ServerPatch { name: Some("x".to_owned()), ..Default::default() };
    let refused = operator.update_server(id, renamed, None, &ground.actor).await;
    assert_eq!(refused.unwrap_err(), DbError::ManagedByConfig);
    assert_eq!(declare().await.unwrap(), 0);
    let now = ground.db.tenant(ground.ours).find_server(id).await.unwrap();
    assert_eq!((now.settings.enabled, now.settings.timeout_ms), (false, Some(5)));
}

async fn a_nul_is_refused(ground: Ground) {
    let ours = ground.db.tenant(ground.ours);
    let mut args = stdio("time");
    args.settings.args = vec!["a\0b".to_owned()];
    let mut name = stdio("time");
    name.settings.name = "a\0b".to_owned();
    for bad in [args, name, stdio("time").env([("A", "\0")])] {
        let refused = ours.create_server(bad, &ground.actor).await;
        assert!(matches!(refused, Err(DbError::Invalid(_))), "{refused:?}");
    }
}
