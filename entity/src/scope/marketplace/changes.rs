//! Publications, and changes of entries and their versions.

use protocol::TenantId;
use sea_orm::sea_query::{Expr, OnConflict};
use sea_orm::{ColumnTrait, DatabaseTransaction, EntityTrait, PaginatorTrait, QueryFilter, QuerySelect};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::latest::{outlines, settle};
use crate::actor::Actor;
use crate::change::{Change, Event};
use crate::error::DbError;
use crate::marketplace::{EntryPatch, MAX_ENTRIES, MAX_IMPORTED, MAX_VERSIONS, NewVersion, Source, Status};
use crate::rows::all_set;
use crate::rows::marketplace::entries::tags_column;
use crate::rows::marketplace::{entries, versions};
use crate::scope::{OperatorScope, TenantScope, refuse_nul};
use crate::time;

impl TenantScope<'_> {
    /// Publishes a version. The first tenant to publish a name owns it.
    ///
    /// # Errors
    /// `Conflict` for a name that is another's or the program's, a version that exists, and more entries or versions
    /// than a tenant may have.
    pub async fn publish(&self, new: &NewVersion, actor: &Actor) -> Result<(), DbError> {
        let change = self.change(actor).await?;
        self.hold_tenant(&change.tx).await?;
        add(&change.tx, Some(self.tenant), Source::Published, new).await?;
        let details = json!({
            "category": new.category,
            "tags": new.tags,
            "document": format!("sha256:{:x}", Sha256::digest(&new.document)),
        });
        let target = format!("{}@{}", new.name, new.version);
        let event = Event { tenant: Some(self.tenant), action: "registry.publish", target, details };
        change.commit_unnumbered([event]).await
    }

    /// Changes an own publication; another's is not found.
    pub async fn update_entry(&self, name: &str, patch: &EntryPatch, actor: &Actor) -> Result<(), DbError> {
        let change = self.change(actor).await?;
        update(change, name, Some(self.tenant), patch).await
    }
}

impl OperatorScope<'_> {
    /// Changes any entry.
    pub async fn update_entry(&self, name: &str, patch: &EntryPatch, actor: &Actor) -> Result<(), DbError> {
        let change = self.change(actor).await?;
        update(change, name, None, patch).await
    }
}

/// Adds a version, and its entry when it is new.
pub(super) async fn add(
    tx: &DatabaseTransaction,
    owner: Option<TenantId>,
    source: Source,
    new: &NewVersion,
) -> Result<(), DbError> {
    let texts = [&new.name, &new.version, &new.description, &new.document, &new.category];
    refuse_nul(texts.into_iter().chain(&new.title).chain(&new.tags).map(String::as_str))?;
    let now = time::now();
    let published_at = time::to_column(new.published_at.unwrap_or(now));
    let known = entries::Entity::find_by_id(new.name.clone()).lock_exclusive().one(tx).await?;
    let mut entry = match known {
        Some(row) => may_add(tx, row, owner, source, &new.version).await?,
        None => new_entry(tx, owner, source, new, published_at).await?,
    };
    let now = time::to_column(now);
    insert_version(tx, new, published_at, now).await?;
    entry.category.clone_from(&new.category);
    entry.tags = tags_column(&new.tags);
    entry.updated_at = now;
    settle(tx, &mut entry).await
}

/// Refuses a version of a name that is not the owner's, or that exists.
async fn may_add(
    tx: &DatabaseTransaction,
    row: entries::Model,
    owner: Option<TenantId>,
    source: Source,
    version: &str,
) -> Result<entries::Model, DbError> {
    if row.tenant_id.map(TenantId) != owner || row.source != source.as_str() {
        let whose = match Source::parse(&row.source) {
            Some(Source::Curated) => "comes with the program",
            Some(Source::Imported) => "was imported by the operator",
            Some(Source::Published) | None => "belongs to another publisher",
        };
        return Err(DbError::Conflict(format!("the name `{}` {whose}: choose another name", row.name)));
    }
    let all = outlines(tx, &row.name).await?;
    if all.iter().any(|one| one.version == version) {
        let reason = format!("version {version} of `{}` exists, and versions never change", row.name);
        return Err(DbError::Conflict(format!("{reason}: publish a new version")));
    }
    if all.len() >= MAX_VERSIONS {
        return Err(DbError::Conflict(format!(
            "`{}` has {MAX_VERSIONS} versions, the most there can be",
            row.name
        )));
    }
    Ok(row)
}

async fn new_entry(
    tx: &DatabaseTransaction,
    owner: Option<TenantId>,
    source: Source,
    new: &NewVersion,
    now: i64,
) -> Result<entries::Model, DbError> {
    use entries::Column;
    let (column, most) = match owner {
        Some(tenant) => (Column::TenantId.eq(tenant.0), MAX_ENTRIES),
        None => (Column::Source.eq(source.as_str()), MAX_IMPORTED),
    };
    if entries::Entity::find().filter(column).count(tx).await? >= most {
        return Err(DbError::Conflict(format!("there are {most} entries already, the most there can be")));
    }
    let row = entries::Model {
        name: new.name.clone(),
        tenant_id: owner.map(|tenant| tenant.0),
        source: source.as_str().to_owned(),
        category: new.category.clone(),
        tags: tags_column(&new.tags),
        latest: None,
        stdio: new.stdio,
        remote: new.remote,
        search: String::new(),
        featured: false,
        verified: false,
        ratings: 0,
        stars: 0,
        installs: 0,
        created_at: now,
        updated_at: now,
    };
    // A violated index would end the transaction on PostgreSQL, and an import goes on.
    let taken = OnConflict::column(Column::Name).do_nothing().to_owned();
    let insert = entries::Entity::insert::<entries::ActiveModel>(all_set(row.clone())).on_conflict(taken);
    if insert.exec_without_returning(tx).await? == 0 {
        return Err(DbError::Conflict(format!(
            "the name `{}` was taken a moment ago: choose another name",
            row.name
        )));
    }
    Ok(row)
}

async fn insert_version(
    tx: &DatabaseTransaction,
    new: &NewVersion,
    published_at: i64,
    now: i64,
) -> Result<(), DbError> {
    let row = versions::Model {
        name: new.name.clone(),
        version: new.version.clone(),
        title: new.title.clone(),
        description: new.description.clone(),
        stdio: new.stdio,
        remote: new.remote,
        document: new.document.clone(),
        status: new.status.as_str().to_owned(),
        status_message: None,
        is_latest: false,
        published_at,
        updated_at: now,
    };
    versions::Entity::insert::<versions::ActiveModel>(all_set(row)).exec_without_returning(tx).await?;
    Ok(())
}

async fn update(
    change: Change<'_>,
    name: &str,
    owner: Option<TenantId>,
    patch: &EntryPatch,
) -> Result<(), DbError> {
    let texts = [&patch.category].into_iter().flatten().chain(patch.status_message.iter().flatten());
    refuse_nul(texts.chain(patch.tags.iter().flatten()).map(String::as_str))?;
    let row = entries::Entity::find_by_id(name.to_owned()).lock_exclusive().one(&change.tx).await?;
    let is_own = |row: &entries::Model| owner.is_none_or(|owner| row.tenant_id == Some(owner.0));
    let mut row = row.filter(is_own).ok_or(DbError::NotFound)?;
    if row.source == Source::Curated.as_str() && (patch.category.is_some() || patch.tags.is_some()) {
        let reason = format!("category and tags of `{name}` come with the program");
        return Err(DbError::Conflict(reason));
    }
    let now = time::to_column(time::now());
    set_status(&change.tx, &row, patch, now).await?;
    if let Some(category) = &patch.category {
        row.category.clone_from(category);
    }
    if let Some(tags) = &patch.tags {
        row.tags = tags_column(tags);
    }
    row.featured = patch.featured.unwrap_or(row.featured);
    row.verified = patch.verified.unwrap_or(row.verified);
    row.updated_at = now;
    settle(&change.tx, &mut row).await?;
    let tenant = row.tenant_id.map(TenantId);
    let target = patch.version.as_ref().map_or(name.to_owned(), |version| format!("{name}@{version}"));
    let event = Event { tenant, action: "registry.update", target, details: details(patch) };
    change.commit_unnumbered([event]).await
}

/// Gives one version, or all that are not deleted, the status of the patch. A deleted version stays deleted.
async fn set_status(
    tx: &DatabaseTransaction,
    row: &entries::Model,
    patch: &EntryPatch,
    now: i64,
) -> Result<(), DbError> {
    use versions::Column;
    if patch.status.is_none() && patch.status_message.is_none() {
        return Ok(());
    }
    let mut update = versions::Entity::update_many()
        .col_expr(Column::UpdatedAt, Expr::value(now))
        .filter(Column::Name.eq(row.name.as_str()))
        .filter(Column::Status.ne(Status::Deleted.as_str()));
    if let Some(version) = &patch.version {
        update = update.filter(Column::Version.eq(version.as_str()));
    }
    if let Some(status) = patch.status {
        update = update.col_expr(Column::Status, Expr::value(status.as_str()));
    }
    if let Some(message) = &patch.status_message {
        update = update.col_expr(Column::StatusMessage, Expr::value(message.clone()));
    }
    match update.exec(tx).await?.rows_affected {
        0 => Err(DbError::NotFound),
        _ => Ok(()),
    }
}

/// Returns the members of a patch that change something.
fn details(patch: &EntryPatch) -> Value {
    let members = [
        ("status", patch.status.map(|status| json!(status.as_str()))),
        ("statusMessage", patch.status_message.as_ref().map(|message| json!(message))),
        ("category", patch.category.as_ref().map(|category| json!(category))),
        ("tags", patch.tags.as_ref().map(|tags| json!(tags))),
        ("featured", patch.featured.map(Value::Bool)),
        ("verified", patch.verified.map(Value::Bool)),
    ];
    let given = members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(given.collect::<Map<_, _>>())
}
