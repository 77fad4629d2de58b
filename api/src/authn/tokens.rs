//! Bearer tokens (RFC 7519): HS256 under the gateway's own secret, or signed by the keys of an issuer. The
//! algorithm decides which of the two applies, and each has keys of its own. A token of an issuer must be for
//! the endpoint that is called (RFC 8707), or for the audience that the operator set.

use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use entity::Changes;
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use protocol::{AgentId, Caller, Code, Refusal, Role, Scope, Scopes, TenantId};
use proxy::egress::Egress;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::authn::audience::{Audience, OneOrMany};
use crate::authn::header::invalid;
use crate::authn::jwks::{Jwks, Source};
use crate::authn::oauth::ResourceUri;
use crate::authn::{BELIEVED, Identified, header};
use crate::config;

/// The HS256 secrets in force.
pub struct Secrets {
    pub current: String,
    /// Secrets accepted during a rotation.
    pub previous: Vec<String>,
}

/// Claims of a token that the gateway issues.
pub struct TokenClaims {
    pub tenant: TenantId,
    pub agent: AgentId,
    pub agent_slug: String,
    pub scopes: Scopes,
    pub life: Duration,
}

pub struct IssuedToken {
    pub token: String,
    pub expires_at: Timestamp,
}

/// Claims of a verified token.
pub struct Verified {
    pub tenant: Option<String>,
    pub agent: String,
    pub scopes: Scopes,
    pub expires_at: Timestamp,
    pub audience: Audience,
}

pub struct Tokens {
    signing: EncodingKey,
    verifying: Vec<DecodingKey>,
    audience: String,
    issuer: String,
    /// Tolerated difference between the clocks of an issuer and of the gateway.
    leeway: Duration,
    jwks: Option<Jwks>,
    known: DashMap<[u8; 32], Known>,
}

struct Known {
    caller: Arc<Caller>,
    audience: Audience,
    /// The token's expiry.
    expires_at: Timestamp,
    /// Time of the next verification.
    until: Timestamp,
}

/// Most cached tokens; others are verified each time.
const REMEMBERED: usize = 50_000;

impl Tokens {
    pub fn new(auth: &config::Auth, secrets: Secrets, egress: Egress) -> Self {
        let verifying = std::iter::once(&secrets.current)
            .chain(&secrets.previous)
            .map(|secret| DecodingKey::from_secret(secret.as_bytes()))
            .collect();
        Self {
            signing: EncodingKey::from_secret(secrets.current.as_bytes()),
            verifying,
            audience: auth.jwt_audience.clone(),
            issuer: auth.jwt_issuer.clone(),
            leeway: Duration::from_secs(auth.jwt_leeway_seconds),
            jwks: source(auth).map(|source| Jwks::new(source, egress)),
            known: DashMap::new(),
        }
    }

    /// Returns the caller of a token that was verified a short while ago, has not expired since, and may be
    /// used here.
    pub fn known(&self, token: &str, resource: ResourceUri<'_>) -> Option<Identified> {
        let known = self.known.get(&digest(token))?;
        let good = known.until > Timestamp::now() && known.audience.covers(resource);
        good.then(|| Identified { caller: Arc::clone(&known.caller), expires_at: Some(known.expires_at) })
    }

    pub fn remember(&self, token: &str, expires_at: Timestamp, audience: Audience, caller: &Arc<Caller>) {
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        let until = expires_at.min(Timestamp::now() + BELIEVED);
        self.known.insert(digest(token), Known { caller: Arc::clone(caller), audience, expires_at, until });
    }

    pub fn forget(&self, changes: &Changes) {
        self.known.retain(|_, known| !changes.affect(known.caller.tenant));
    }

    pub fn issue(&self, claims: TokenClaims) -> Result<IssuedToken, Refusal> {
        #[derive(Serialize)]
        struct Issued<'a> {
            tenant: TenantId,
            sub: &'a str,
            agent_id: AgentId,
            scope: String,
            iat: i64,
            exp: i64,
            jti: String,
            #[serde(skip_serializing_if = "str::is_empty")]
            iss: &'a str,
            #[serde(skip_serializing_if = "str::is_empty")]
            aud: &'a str,
        }
        let now = Timestamp::now();
        let expires_at = now + claims.life;
        let issued = Issued {
            tenant: claims.tenant,
            sub: &claims.agent_slug,
            // The id, since the name of a deleted agent may be another's now.
            agent_id: claims.agent,
            scope: claims.scopes.to_text(),
            iat: now.as_second(),
            exp: expires_at.as_second(),
            jti: uuid::Uuid::now_v7().simple().to_string(),
            iss: &self.issuer,
            aud: &self.audience,
        };
        let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &issued, &self.signing).map_err(
            |error| Refusal::new(Code::Internal, format!("the token could not be signed: {error}")),
        )?;
        let expires_at = Timestamp::from_second(issued.exp).unwrap_or(expires_at);
        Ok(IssuedToken { token, expires_at })
    }

    /// Checks signature, expiry, issuer (where set) and audience.
    pub async fn verify(&self, token: &str, resource: ResourceUri<'_>) -> Result<Verified, Refusal> {
        let header = header::read(token)?;
        let mut claims = match (header.alg, &self.jwks) {
            (Algorithm::HS256, _) => self.try_each(token, Algorithm::HS256, &self.verifying)?,
            (Algorithm::HS384 | Algorithm::HS512, _) => {
                return Err(invalid("of the HS algorithms only HS256 is taken"));
            }
            (_, None) => {
                return Err(invalid(
                    "tokens signed with a public key are not set up here (JWT_ISSUER, JWKS_URL)",
                ));
            }
            (algorithm, Some(jwks)) => {
                let keys = jwks.keys(header.kid.as_deref()).await?;
                self.try_each(token, algorithm, &keys)?
            }
        };
        let own = header.alg == Algorithm::HS256;
        let audience = Audience::check(claims.aud.take(), &self.audience, own, resource)?;
        claims.read(audience, self.leeway)
    }

    /// Verifies with the first key that fits; with none, the first key's error is the answer.
    fn try_each(&self, token: &str, algorithm: Algorithm, keys: &[DecodingKey]) -> Result<Claims, Refusal> {
        let mut validation = Validation::new(algorithm);
        // The library knows whole seconds only; `Claims::read` compares both times itself.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        // The audience depends on the called endpoint; see `Audience`.
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        if !self.issuer.is_empty() {
            validation.set_issuer(&[&self.issuer]);
            validation.set_required_spec_claims(&["iss"]);
        }
        let mut first = None;
        for key in keys.iter().filter(|key| key.family() == algorithm.family()) {
            match jsonwebtoken::decode::<Claims>(token, key, &validation) {
                Ok(token) => return Ok(token.claims),
                Err(error) => drop(first.get_or_insert(error)),
            }
        }
        Err(first.map_or_else(|| invalid("no key of the issuer fits this token"), refused))
    }
}

/// The claims that are read, in all spellings that issuers use.
#[derive(Deserialize)]
struct Claims {
    /// A NumericDate, which may have a fraction (RFC 7519, section 2).
    exp: Option<f64>,
    nbf: Option<f64>,
    aud: Option<OneOrMany>,
    tenant: Option<String>,
    tenant_id: Option<String>,
    tid: Option<String>,
    agent_id: Option<String>,
    #[serde(rename = "agentId")]
    agent_id_camel: Option<String>,
    sub: Option<String>,
    scope: Option<String>,
    scopes: Option<Vec<String>>,
    permissions: Option<Vec<String>>,
}

impl Claims {
    /// Reads the claims of a token that is valid now (RFC 7519, sections 4.1.4 and 4.1.5).
    fn read(self, audience: Audience, leeway: Duration) -> Result<Verified, Refusal> {
        let now = Timestamp::now();
        let exp = self.exp.ok_or_else(|| invalid("the token has no `exp`"))?;
        let expires_at = moment(exp, "exp")?.saturating_add(leeway).map_err(|_| no_time("exp"))?;
        if now >= expires_at {
            return Err(Refusal::new(Code::CredentialExpired, "the token has expired")
                .since(expires_at)
                .hint("ask for a new token: POST /v1/tokens, or your identity provider"));
        }
        let not_before = self.nbf.map(|nbf| moment(nbf, "nbf")).transpose()?;
        if not_before.is_some_and(|nbf| nbf.saturating_sub(leeway).is_ok_and(|nbf| now < nbf)) {
            return Err(invalid("the token is not valid yet"));
        }
        let agent = self.agent_id.or(self.agent_id_camel).or(self.sub).ok_or_else(|| {
            invalid("the token names no agent").hint("put the agent into the claim `agent_id` or `sub`")
        })?;
        let named: Option<Vec<String>> = self
            .scope
            .map(|scope| scope.split_ascii_whitespace().map(str::to_owned).collect())
            .or(self.scopes)
            .or(self.permissions);
        // Issuers put scopes of other services into the same claim; those grant nothing here.
        let scopes = match named {
            Some(names) => names.iter().filter_map(|name| Scope::parse(name)).collect(),
            None => Role::Agent.scopes(),
        };
        let tenant = self.tenant.or(self.tenant_id).or(self.tid);
        Ok(Verified { tenant, agent, scopes, expires_at, audience })
    }
}

/// Reads a NumericDate, to the microsecond.
fn moment(date: f64, claim: &str) -> Result<Timestamp, Refusal> {
    Timestamp::from_microsecond((date * 1e6).floor() as i64).map_err(|_| no_time(claim))
}

fn no_time(claim: &str) -> Refusal {
    invalid(format!("the token's {claim} is no time"))
}

fn refused(error: jsonwebtoken::errors::Error) -> Refusal {
    use jsonwebtoken::errors::ErrorKind;
    match error.kind() {
        ErrorKind::InvalidSignature => invalid("the token's signature is not valid"),
        ErrorKind::InvalidIssuer => invalid("the token's issuer is not the expected one"),
        ErrorKind::MissingRequiredClaim(claim) => invalid(format!("the token has no `{claim}`")),
        _ => invalid("the token is not valid"),
    }
}

/// Returns the source of public keys: the configured address, else the issuer's metadata.
fn source(auth: &config::Auth) -> Option<Source> {
    if !auth.jwks_url.is_empty() {
        return Some(Source::Keys(auth.jwks_url.clone()));
    }
    auth.issuer_url().map(|_| Source::Issuer(auth.jwt_issuer.clone()))
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}
