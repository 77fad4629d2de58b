//! Routing: resolves a caller's name to a server and that server's own name, and issues the permit, without
//! which nothing is called.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::{AgentId, Code, Refusal, names};

use crate::catalog::{Catalog, ListKind, Listing};
use crate::policy::Policy;
use crate::pool::PoolKey;
use crate::renames::Meant;
use crate::selected::Selected;
use crate::server::ServerSpec;
use crate::view::{Member, TenantView};

/// Kind of target at the server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verb {
    CallTool,
    ReadResource,
    GetPrompt,
    Complete,
    /// A method unknown to the gateway.
    Pass,
}

/// Form of the name in the caller's request.
#[derive(Clone, Copy, Debug)]
pub enum Name<'a> {
    /// `slug__name` or `slug+uri`.
    Exposed(&'a str),
    /// A server's slug or id, and the server's own name.
    Own { server: &'a str, name: &'a str },
    /// Name like `Own`, where `list-tables`, `list_tables` and `list tables` are one name.
    Operation { server: &'a str, name: &'a str },
    /// Name like `Own`; an unknown one is left to the server itself.
    Direct { server: &'a str, name: &'a str },
}

/// A server and one of its targets.
#[derive(Debug)]
pub struct Route {
    pub policy: Policy,
    pub key: PoolKey,
    pub verb: Verb,
    /// The server's own name, URI or prompt name.
    pub name: Arc<str>,
    found: Found,
}

/// Presence of the target in the server's list.
#[derive(Debug)]
enum Found {
    Yes,
    No(Refusal),
    /// A list that must be requested first, under a permit and on record, with the way of the look-up.
    NotListed {
        loosely: bool,
        exposed: bool,
    },
}

/// Proof that a caller may use a route, once. Only [`Route::permit`] makes one.
#[derive(Debug)]
pub struct Permit {
    route: Route,
    timeout: Duration,
}

impl Permit {
    pub fn route(&self) -> &Route {
        &self.route
    }

    pub fn spec(&self) -> &Arc<ServerSpec> {
        &self.route.policy.spec
    }

    /// Returns the time limit of the call.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Returns the route, for the record of a refusal.
    pub fn into_route(self) -> Route {
        self.route
    }
}

impl Route {
    /// Applies the policy; `arguments` are those of a tool call. Returns a refused route for the record.
    pub fn permit(self, arguments: &[u8]) -> Result<Permit, Box<(Route, Refusal)>> {
        let refused = match (self.policy.server(), &self.found) {
            (Err(refusal), _) => Some(refusal),
            (Ok(()), Found::No(unknown)) => Some(unknown.clone()),
            // The server's own name is not known yet; `settle` requests it.
            (Ok(()), Found::NotListed { loosely, exposed }) if *loosely || *exposed => None,
            (Ok(()), Found::Yes | Found::NotListed { .. }) => self.allows(arguments).err(),
        };
        match refused {
            None => Ok(Permit { timeout: self.policy.timeout().value, route: self }),
            Some(refusal) => Err(Box::new((self, refusal))),
        }
    }

    fn allows(&self, arguments: &[u8]) -> Result<(), Refusal> {
        match self.verb {
            Verb::CallTool => {
                self.policy.tool(&self.name)?;
                self.policy.arguments(&self.name, arguments)
            }
            Verb::ReadResource => self.policy.item(ListKind::Resources, &self.name),
            Verb::GetPrompt => self.policy.item(ListKind::Prompts, &self.name),
            // A URI, maybe a template, or the name of a prompt.
            Verb::Complete if self.name.contains("://") => {
                self.policy.item(ListKind::ResourceTemplates, &self.name)
            }
            Verb::Complete => self.policy.item(ListKind::Prompts, &self.name),
            Verb::Pass => Ok(()),
        }
    }

    fn listed_as(&self) -> Option<ListKind> {
        match self.verb {
            Verb::CallTool => Some(ListKind::Tools),
            Verb::GetPrompt => Some(ListKind::Prompts),
            Verb::ReadResource | Verb::Complete | Verb::Pass => None,
        }
    }
}

impl Catalog {
    /// Finds the route, as far as possible without a request to the server. `key` selects the upstream
    /// whose names are looked up.
    pub fn resolve(
        &self,
        view: &TenantView,
        agent: Option<AgentId>,
        verb: Verb,
        name: Name<'_>,
        key: impl Fn(&ServerSpec) -> PoolKey,
    ) -> Result<Route, Refusal> {
        let (member, own) = match find_member(view, verb, name) {
            Ok(found) => found,
            Err(refusal) => self.find_resource((view, agent), verb, name, &key).ok_or(refusal)?,
        };
        let policy = member.policy(agent);
        let key = key(&policy.spec);
        let meant = meant(&policy, verb, name, &own);
        let found = match (name, meant) {
            (_, Meant::Taken(new)) => Found::No(taken(&policy, &own, new)),
            (Name::Direct { .. }, _) => Found::Yes,
            // The name is the server's own, whatever the caller's form is.
            (_, Meant::Renamed(_)) => Found::NotListed { exposed: false, loosely: false },
            (_, Meant::Own) => Found::NotListed {
                exposed: matches!(name, Name::Exposed(_)),
                loosely: matches!(name, Name::Operation { .. }),
            },
        };
        let name = match meant {
            Meant::Renamed(own) => own.into(),
            Meant::Own | Meant::Taken(_) => own.into(),
        };
        let mut route = Route { policy, key, verb, name, found };
        match route.listed_as() {
            None => route.found = Found::Yes,
            Some(_) if matches!(route.found, Found::No(_)) => {}
            Some(kind) => {
                // An outdated list has most names; `settle` asks the server for others.
                if let Some(listing) = self.known_or_last(&key, kind) {
                    route.look_up(&listing, self.is_current(&key, &listing));
                }
            }
        }
        Ok(route)
    }

    /// Finds the one server known to list a URI, such as a link within a result.
    fn find_resource<'v, 'n>(
        &self,
        (view, agent): (&'v TenantView, Option<AgentId>),
        verb: Verb,
        name: Name<'n>,
        key: impl Fn(&ServerSpec) -> PoolKey,
    ) -> Option<(&'v Member, Cow<'n, str>)> {
        let (Verb::ReadResource | Verb::Complete, Name::Exposed(uri)) = (verb, name) else { return None };
        let lists = |member: &&Member| {
            let listing = self.known(&key(member.spec_for(agent)), ListKind::Resources);
            listing.is_some_and(|listing| listing.find(uri).is_some())
        };
        let mut found = view.members().iter().filter(lists);
        match (found.next(), found.next()) {
            (Some(member), None) => Some((member, uri.into())),
            _ => None,
        }
    }

    /// Requests the server's names where still unknown, and applies the policy to the name found and the arguments.
    pub async fn settle(
        &self,
        permit: &mut Permit,
        arguments: &[u8],
        selected: &Selected,
        deadline: Instant,
    ) -> Result<(), Refusal> {
        let route = &mut permit.route;
        if let (Found::NotListed { .. }, Some(kind)) = (&route.found, route.listed_as()) {
            // The upstream of the call is started anyway; another one would be started for the list alone.
            let own = selected.for_calls().filter(|_| self.known(&selected.list_key, kind).is_none());
            let selected = own.as_ref().unwrap_or(selected);
            let listing = self.list(selected, kind, deadline).await?;
            route.look_up(&listing, self.is_current(&selected.list_key, &listing));
            if let Found::NotListed { .. } = route.found {
                let listing = self.current(selected, kind, deadline).await?;
                route.look_up(&listing, true);
            }
            route.allows(arguments)?;
        }
        match &route.found {
            Found::No(unknown) => Err(unknown.clone()),
            Found::Yes | Found::NotListed { .. } => Ok(()),
        }
    }
}

impl Route {
    /// Looks the name up. The server may have names that an outdated list does not have.
    fn look_up(&mut self, listing: &Listing, is_current: bool) {
        let Found::NotListed { loosely, exposed } = self.found else { return };
        let item = match (exposed, loosely) {
            (true, _) => listing.find_exposed(&self.name),
            (false, false) => listing.find(&self.name),
            (false, true) => listing.find(&self.name).or_else(|| listing.find_loosely(&self.name)),
        };
        match item {
            Some(item) => {
                self.name = Arc::clone(&item.name);
                self.found = Found::Yes;
            }
            None if !is_current => {}
            None => self.found = Found::No(unknown_item(&self.policy, self.verb, &self.name, listing)),
        }
    }
}

/// Finds the tool that a caller's name stands for, by the new names of the configs.
pub fn meant<'p>(policy: &'p Policy, verb: Verb, name: Name<'_>, given: &str) -> Meant<'p> {
    let Some(renames) = policy.renames().filter(|_| verb == Verb::CallTool) else { return Meant::Own };
    match name {
        Name::Exposed(_) => renames.meant_by_tail(given),
        Name::Own { .. } | Name::Direct { .. } => renames.meant(given),
        Name::Operation { .. } => renames.meant_loosely(given),
    }
}

/// Refuses a tool's own name where it has a new one.
pub fn taken(policy: &Policy, own: &str, new: &str) -> Refusal {
    let slug = &policy.spec.slug;
    Refusal::new(Code::UnknownTool, format!("server `{slug}` has no tool `{}` here", shortened(own)))
        .hint(format!("it is called `{new}`"))
}

/// Finds the server, and the name for a look-up at that server.
pub fn find_member<'v, 'n>(
    view: &'v TenantView,
    verb: Verb,
    name: Name<'n>,
) -> Result<(&'v Member, Cow<'n, str>), Refusal> {
    match name {
        Name::Own { server, name } | Name::Operation { server, name } | Name::Direct { server, name } => {
            Ok((find_server(view, server)?, name.into()))
        }
        Name::Exposed(exposed) => {
            let tool = || names::split_exposed(exposed).map(|(slug, tail)| (slug, Cow::Borrowed(tail)));
            let resource = || names::split_resource(exposed);
            let cut = match verb {
                Verb::CallTool | Verb::GetPrompt | Verb::Pass => tool(),
                Verb::ReadResource => resource(),
                Verb::Complete => tool().or_else(resource),
            };
            let found = cut.and_then(|(slug, tail)| Some((view.find(slug)?, tail)));
            found.ok_or_else(|| unknown_exposed(view, verb, exposed))
        }
    }
}

/// Finds a server by slug or id.
pub fn find_server<'v>(view: &'v TenantView, server: &str) -> Result<&'v Member, Refusal> {
    let by_id = || view.members().iter().find(|member| member.spec.id.to_string() == server);
    view.find(server).or_else(by_id).ok_or_else(|| unknown_server(view, server))
}

fn unknown_server(view: &TenantView, server: &str) -> Refusal {
    let slugs: Vec<&str> = view.members().iter().map(|member| member.spec.slug.as_str()).take(50).collect();
    Refusal::new(Code::UnknownServer, format!("no server `{}` is registered here", shortened(server)))
        .hint(format!("registered: {}; GET /v1/mcp/servers lists them", slugs.join(", ")))
}

fn unknown_exposed(view: &TenantView, verb: Verb, exposed: &str) -> Refusal {
    let slugs: Vec<&str> = view.members().iter().map(|member| member.spec.slug.as_str()).take(50).collect();
    let (code, what, form) = match verb {
        Verb::CallTool => (Code::UnknownTool, "tool", "slug__tool"),
        Verb::GetPrompt => (Code::UnknownItem, "prompt", "slug__prompt"),
        Verb::ReadResource => (Code::UnknownItem, "resource", "slug+uri"),
        Verb::Complete => (Code::UnknownItem, "prompt or resource", "slug__prompt or slug+uri"),
        Verb::Pass => (Code::UnknownItem, "task", "as the server gave it"),
    };
    let refusal = Refusal::new(code, format!("there is no {what} `{}`", shortened(exposed)));
    let refusal = if verb == Verb::ReadResource { refusal.fact("uri", exposed) } else { refusal };
    refusal.hint(format!("names have the form {form}; registered servers: {}", slugs.join(", ")))
}

fn unknown_item(policy: &Policy, verb: Verb, name: &str, listing: &Listing) -> Refusal {
    let (code, what, kind) = match verb {
        Verb::CallTool => (Code::UnknownTool, "tool", ListKind::Tools),
        Verb::ReadResource | Verb::GetPrompt | Verb::Complete | Verb::Pass => {
            (Code::UnknownItem, "prompt", ListKind::Prompts)
        }
    };
    let visible: Vec<&str> = listing
        .items
        .iter()
        .map(|item| &*item.name)
        .filter(|name| policy.shows(kind, Some(name)))
        .filter_map(|name| if kind == ListKind::Tools { policy.shown_tool(name) } else { Some(name) })
        .take(30)
        .collect();
    let slug = &policy.spec.slug;
    let hint = if visible.is_empty() {
        format!("server `{slug}` lists no {what}s")
    } else {
        format!("server `{slug}` lists: {}", visible.join(", "))
    };
    Refusal::new(code, format!("server `{slug}` has no {what} `{}`", shortened(name))).hint(hint)
}

/// Returns at most 100 characters of a caller's text, for messages.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(100) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}
