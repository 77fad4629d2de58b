//! Tokens as somebody else's identity provider makes them, and a provider that publishes its keys.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::SigningKey;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

/// Now, in seconds since the epoch, moved by so many.
pub fn in_seconds(seconds: i64) -> i64 {
    jiff::Timestamp::now().as_second() + seconds
}

/// An HS256 token.
pub fn hs256(secret: &str, claims: &Value) -> String {
    let key = EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &key).expect("claims are plain JSON")
}

/// An HS256 token under exactly this header.
pub fn under(header: &Value, secret: &str, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(header), part(claims));
    let key = EncodingKey::from_secret(secret.as_bytes());
    let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &key, Algorithm::HS256);
    format!("{signed}.{}", signature.expect("HS256 signs anything"))
}

/// A token with every scope in the tenant `default`.
pub fn operator_token(secret: &str) -> String {
    let scopes: Vec<&str> = protocol::Role::Operator.scopes().iter().map(protocol::Scope::as_str).collect();
    let claims = json!({
        "sub": "operator", "tenant": "default", "scope": scopes.join(" "), "exp": in_seconds(3600),
    });
    hs256(secret, &claims)
}

/// A token that says that it needs no signature.
pub fn unsigned(claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.", part(&json!({ "alg": "none", "typ": "JWT" })), part(claims))
}

/// A key pair and its public half as a JSON Web Key.
pub struct ProviderKey {
    pub id: String,
    algorithm: Algorithm,
    private: EncodingKey,
    pub public: Value,
}

impl ProviderKey {
    /// Signs with Ed25519.
    pub fn ed25519(id: &str) -> ProviderKey {
        let mut seed = [0; 32];
        seed[..16].copy_from_slice(uuid::Uuid::now_v7().as_bytes());
        let pair = SigningKey::from_bytes(&seed);
        // PKCS#8 (RFC 8410) is this head and the seed.
        let mut der = vec![0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
        der.extend_from_slice(&seed);
        let public = json!({
            "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": id,
            "x": URL_SAFE_NO_PAD.encode(pair.verifying_key().as_bytes()),
        });
        let private = EncodingKey::from_ed_der(&der);
        ProviderKey { id: id.to_owned(), algorithm: Algorithm::EdDSA, private, public }
    }

    /// Signs with RS256. `openssl` makes the key, since an unoptimised build of ours takes a minute.
    pub fn rsa(id: &str, openssl: &std::path::Path) -> ProviderKey {
        let ask = |arguments: &[&str], input: &[u8]| crate::tls::openssl(openssl, arguments, input);
        let private = ask(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"], b"");
        let modulus = String::from_utf8(ask(&["rsa", "-noout", "-modulus"], &private)).expect("it is text");
        let hex = modulus.trim().trim_start_matches("Modulus=").as_bytes();
        let digit = |byte: u8| (byte as char).to_digit(16).expect("it is hexadecimal") as u8;
        let bytes: Vec<u8> = hex.chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect();
        let public = json!({
            "kty": "RSA", "use": "sig", "alg": "RS256", "kid": id,
            "n": URL_SAFE_NO_PAD.encode(bytes), "e": "AQAB",
        });
        let private = EncodingKey::from_rsa_pem(&private).expect("openssl writes PEM");
        ProviderKey { id: id.to_owned(), algorithm: Algorithm::RS256, private, public }
    }

    pub fn sign(&self, claims: &Value) -> String {
        let mut header = Header::new(self.algorithm);
        header.kid = Some(self.id.clone());
        jsonwebtoken::encode(&header, claims, &self.private).expect("claims are plain JSON")
    }
}

/// An HTTP server on loopback that plays an identity provider; it ends with the test process.
pub struct Provider {
    address: SocketAddr,
    asked: Arc<AtomicU32>,
}

impl Provider {
    /// Publishes keys at whatever path is asked for.
    pub fn publish(keys: &[&ProviderKey]) -> Provider {
        let keys = key_set(keys);
        Self::serve(move |_, _| Some(keys.clone()))
    }

    /// Answers with what is made of its own address (`http://…`) and the path; 404 for nothing.
    pub fn serve(answer: impl Fn(&str, &str) -> Option<Value> + Send + 'static) -> Provider {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
        let address = listener.local_addr().expect("a bound listener has an address");
        let asked = Arc::new(AtomicU32::new(0));
        let counter = asked.clone();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                counter.fetch_add(1, Ordering::Relaxed);
                let mut head = [0; 4096];
                let length = stream.read(&mut head).unwrap_or(0);
                let head = String::from_utf8_lossy(&head[..length]).into_owned();
                let path = head.split(' ').nth(1).unwrap_or("/");
                let answer = answer(&format!("http://{address}"), path);
                let status = if answer.is_some() { "200 OK" } else { "404 Not Found" };
                let body = answer.unwrap_or_default().to_string();
                let head = format!("content-type: application/json\r\ncontent-length: {}", body.len());
                let _ = write!(stream, "HTTP/1.1 {status}\r\n{head}\r\nconnection: close\r\n\r\n{body}");
            }
        });
        Provider { address, asked }
    }

    pub fn url(&self) -> String {
        self.at("/jwks.json")
    }

    pub fn at(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// How often somebody asked for something.
    pub fn asked(&self) -> u32 {
        self.asked.load(Ordering::Relaxed)
    }
}

/// A JSON Web Key Set.
pub fn key_set(keys: &[&ProviderKey]) -> Value {
    json!({ "keys": keys.iter().map(|key| key.public.clone()).collect::<Vec<_>>() })
}
