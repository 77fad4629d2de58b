//! Marketplace entries: their latest version, their owner, their sums, and imports of others.

use entity::marketplace::{
    EntryFilter, EntryPatch, Imported, MAX_VERSIONS, NewVersion, Source, Status, VersionFilter, WantedVersion,
};
use entity::{DbError, Page};

use crate::ground::Ground;

tests!(
    BOTH: the_latest_is_the_highest_release, a_publication_is_its_tenants, sums_are_of_each_tenant_once,
        curated_entries_follow_the_program, an_import_refuses_without_ending, one_page_after_the_other,
        versions_are_bounded;
);

fn version(name: &str, version: &str) -> NewVersion {
    NewVersion {
        name: name.to_owned(),
        version: version.to_owned(),
        title: None,
        description: format!("100% of {version}"),
        document: format!("{{\"version\":\"{version}\"}}"),
        stdio: true,
        remote: false,
        category: "tools".to_owned(),
        tags: vec!["first".to_owned(), "second_one".to_owned()],
        status: Status::Active,
        published_at: None,
    }
}

fn delete(version: &str) -> EntryPatch {
    EntryPatch { version: Some(version.to_owned()), status: Some(Status::Deleted), ..EntryPatch::default() }
}

async fn the_latest_is_the_highest_release(ground: Ground) {
    let ours = ground.db.tenant(ground.ours);
    for (new, latest) in
        [("1.0.0-rc.1", "1.0.0-rc.1"), ("0.9.0", "0.9.0"), ("0.10.0", "0.10.0"), ("0.9.1", "0.10.0")]
    {
        ground.only_audits("registry.publish", ours.publish(&version("a/b", new), &ground.actor)).await;
        assert_eq!(ours.find_entry("a/b").await.unwrap().latest.version, latest, "after {new}");
    }
    ground.only_audits("registry.update", ours.update_entry("a/b", &delete("0.10.0"), &ground.actor)).await;
    assert_eq!(ours.find_entry("a/b").await.unwrap().latest.version, "0.9.1");
    let twice = ground.changes_nothing(ours.update_entry("a/b", &delete("0.10.0"), &ground.actor)).await;
    assert_eq!(twice.unwrap_err(), DbError::NotFound);
    let again = ground.changes_nothing(ours.publish(&version("a/b", "0.10.0"), &ground.actor)).await;
    assert!(matches!(again, Err(DbError::Conflict(_))), "{again:?}");
    let all = ours.entry_versions("a/b").await.unwrap();
    let shown: Vec<&str> = all.iter().map(|one| &*one.version).collect();
    assert_eq!(shown, ["0.10.0", "0.9.1", "0.9.0", "1.0.0-rc.1"]);
    for one in &shown[1..] {
        ours.update_entry("a/b", &delete(one), &ground.actor).await.unwrap();
    }
    assert_eq!(ours.find_entry("a/b").await.unwrap_err(), DbError::NotFound);
    assert_eq!(ours.entries(&EntryFilter::default(), Page::default()).await.unwrap().total, 0);
    assert_eq!(ours.entry_owner("a/b").await.unwrap(), Some(ground.ours), "the name stays its publisher's");
}

async fn a_publication_is_its_tenants(ground: Ground) {
    let (ours, theirs) = (ground.db.tenant(ground.ours), ground.db.tenant(ground.theirs));
    theirs.publish(&version("a/b", "1.0.0"), &ground.actor).await.unwrap();
    let taken = ground.changes_nothing(ours.publish(&version("a/b", "1.1.0"), &ground.actor)).await;
    assert!(matches!(taken, Err(DbError::Conflict(_))), "{taken:?}");
    let change = EntryPatch { category: Some("other".to_owned()), ..EntryPatch::default() };
    let refused = ground.changes_nothing(ours.update_entry("a/b", &change, &ground.actor)).await;
    assert_eq!(refused.unwrap_err(), DbError::NotFound);
    let featured = EntryPatch { featured: Some(true), ..EntryPatch::default() };
    ground.db.operator().update_entry("a/b", &featured, &ground.actor).await.unwrap();
    let entry = ours.find_entry("a/b").await.unwrap();
    assert_eq!((entry.owner, entry.source, entry.featured), (Some(ground.theirs), Source::Published, true));
    let total = async |filter: EntryFilter| ours.entries(&filter, Page::default()).await.unwrap().total;
    for (filter, wanted) in [
        (EntryFilter { mine: Some(true), ..Default::default() }, 0),
        (EntryFilter { mine: Some(false), featured: Some(true), ..Default::default() }, 1),
        (EntryFilter { verified: Some(true), ..Default::default() }, 0),
        (EntryFilter { tag: Some("second_one".to_owned()), ..Default::default() }, 1),
        (EntryFilter { tag: Some("second%".to_owned()), ..Default::default() }, 0),
        (EntryFilter { tag: Some("second".to_owned()), ..Default::default() }, 0),
        (EntryFilter { search: Some("100% OF 1".to_owned()), ..Default::default() }, 1),
        (EntryFilter { search: Some("1_0".to_owned()), ..Default::default() }, 0),
        (EntryFilter { remote: Some(true), ..Default::default() }, 0),
        (EntryFilter { remote: Some(false), category: Some("tools".to_owned()), ..Default::default() }, 1),
    ] {
        assert_eq!(total(filter.clone()).await, wanted, "{filter:?}");
    }
}

async fn sums_are_of_each_tenant_once(ground: Ground) {
    let (ours, theirs) = (ground.db.tenant(ground.ours), ground.db.tenant(ground.theirs));
    ground.db.operator().declare_entries(&[version("a/b", "1.0.0")], &ground.actor).await.unwrap();
    ours.rate("a/b", 1, None, &ground.actor).await.unwrap();
    let rating = ours.rate("a/b", 4, Some("good".to_owned()), &ground.actor);
    ground.only_audits("registry.rate", rating).await;
    theirs.rate("a/b", 5, None, &ground.actor).await.unwrap();
    let sums = async || {
        let entry = ours.find_entry("a/b").await.unwrap();
        (entry.ratings, entry.stars, entry.installs)
    };
    assert_eq!(sums().await, (2, 9, 0));
    assert_eq!(ours.ratings("a/b", Page::default()).await.unwrap().total, 2);
    ground.only_audits("registry.unrate", theirs.remove_rating("a/b", &ground.actor)).await;
    for (rows, installs) in [(ours, 1), (ours, 1), (theirs, 2)] {
        let noted = rows.note_install("a/b", "1.0.0", "sha256:0", &ground.actor);
        ground.only_audits("registry.install", noted).await;
        assert_eq!(sums().await, (1, 4, installs));
    }
    ours.publish(&version("own/one", "1.0.0"), &ground.actor).await.unwrap();
    let own = ground.changes_nothing(ours.rate("own/one", 5, None, &ground.actor)).await;
    assert!(matches!(own, Err(DbError::Conflict(_))), "{own:?}");
    let none = ground.changes_nothing(ours.rate("no/thing", 5, None, &ground.actor)).await;
    assert_eq!(none.unwrap_err(), DbError::NotFound);
}

async fn curated_entries_follow_the_program(ground: Ground) {
    let (operator, ours) = (ground.db.operator(), ground.db.tenant(ground.ours));
    ours.publish(&version("own/one", "1.0.0"), &ground.actor).await.unwrap();
    // A version of no semantic versioning, which packages of PyPI have.
    let mut all = vec![version("a/b", "0.0.1a8"), version("own/one", "2.0.0")];
    assert_eq!(operator.declare_entries(&all, &ground.actor).await.unwrap(), 1);
    let again = ground.changes_nothing(operator.declare_entries(&all, &ground.actor)).await;
    assert_eq!(again.unwrap(), 0);
    assert_eq!(ours.find_entry("own/one").await.unwrap().source, Source::Published, "what is taken stays");
    all[0].document = "{}".to_owned();
    all.push(version("a/b", "0.0.2"));
    assert_eq!(operator.declare_entries(&all, &ground.actor).await.unwrap(), 2);
    let entry = ours.find_entry("a/b").await.unwrap();
    assert_eq!((entry.latest.version.as_str(), entry.source), ("0.0.2", Source::Curated));
    let first = ours.entry_version("a/b", &WantedVersion::Exactly("0.0.1a8".to_owned())).await.unwrap();
    assert_eq!((first.document.as_str(), first.is_latest), ("{}", false));
}

async fn an_import_refuses_without_ending(ground: Ground) {
    let (operator, ours) = (ground.db.operator(), ground.db.tenant(ground.ours));
    ours.publish(&version("own/one", "1.0.0"), &ground.actor).await.unwrap();
    let all = [version("own/one", "1.1.0"), version("a/b", "1.0.0"), version("a/b", "1.0.0")];
    let outcomes = ground.only_audits("registry.import", operator.import(&all, &ground.actor)).await;
    assert!(
        matches!(&outcomes[0], Imported::Refused(reason) if reason.contains("another publisher")),
        "{outcomes:?}"
    );
    assert_eq!(outcomes[1..], [Imported::Added, Imported::Unchanged]);
    let again = ground.changes_nothing(operator.import(&all[1..], &ground.actor)).await;
    assert_eq!(again.unwrap(), [Imported::Unchanged, Imported::Unchanged]);
}

async fn one_page_after_the_other(ground: Ground) {
    let (operator, ours) = (ground.db.operator(), ground.db.tenant(ground.ours));
    let names = ["a.b/x", "a/b", "A/b", "a/b-c"];
    let all: Vec<NewVersion> =
        names.iter().flat_map(|name| [version(name, "1.0.0"), version(name, "1.0.0-a")]).collect();
    operator.import(&all, &ground.actor).await.unwrap();
    let mut seen = Vec::new();
    let mut filter =
        VersionFilter { after: None, search: None, updated_since: None, version: None, limit: 3 };
    loop {
        let mut page = ours.versions(&filter).await.unwrap();
        let more = page.len() > 3;
        page.truncate(3);
        seen.extend(page.into_iter().map(|one| (one.name, one.version)));
        if !more {
            break;
        }
        filter.after = seen.last().cloned();
    }
    let mut wanted: Vec<(String, String)> = all.into_iter().map(|one| (one.name, one.version)).collect();
    wanted.sort();
    assert_eq!(seen, wanted, "in the order of bytes, each once");
    let latest = VersionFilter { after: None, version: Some(WantedVersion::Latest), limit: 10, ..filter };
    assert_eq!(ours.versions(&latest).await.unwrap().len(), names.len());
}

async fn versions_are_bounded(ground: Ground) {
    let all: Vec<NewVersion> = (0..=MAX_VERSIONS).map(|at| version("a/b", &format!("1.{at}.0"))).collect();
    let outcomes = ground.db.operator().import(&all, &ground.actor).await.unwrap();
    let (added, refused) = outcomes.split_at(MAX_VERSIONS);
    assert!(added.iter().all(|outcome| *outcome == Imported::Added));
    assert!(matches!(&refused[0], Imported::Refused(reason) if reason.contains("the most")), "{refused:?}");
}
