//! Contents of workspace files: immutable objects named by tenant and SHA-256, in a local directory or in an
//! S3-compatible store.

use std::path::Path as FsPath;
use std::sync::Arc;

use bytes::Bytes;
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use parking_lot::Mutex;
use protocol::{Code, Refusal, TenantId};
use sha2::{Digest, Sha256};

/// Bytes of contents kept in memory.
const CACHED: usize = 16 << 20;

/// Longest contents kept in memory, bytes.
const LONGEST_CACHED: usize = 1 << 20;

pub struct Blobs {
    store: Arc<dyn ObjectStore>,
    cache: Mutex<Cache>,
}

/// An S3-compatible store. An empty endpoint is that of AWS.
#[derive(Clone, Debug, Default)]
pub struct S3 {
    pub bucket: String,
    pub endpoint: String,
    pub region: String,
    pub access_key: String,
    pub secret_key: String,
}

impl Blobs {
    /// Opens a directory, and makes it when it is not there. A written blob survives a power failure.
    pub fn in_directory(dir: &FsPath) -> Result<Self, String> {
        std::fs::create_dir_all(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        let store = LocalFileSystem::new_with_prefix(dir).map_err(|error| error.to_string())?;
        Ok(Self::new(Arc::new(store.with_fsync(true))))
    }

    pub fn in_s3(s3: &S3) -> Result<Self, String> {
        proxy::tls::prepare();
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&s3.bucket)
            .with_region(&s3.region)
            .with_access_key_id(&s3.access_key)
            .with_secret_access_key(&s3.secret_key);
        if !s3.endpoint.is_empty() {
            builder = builder.with_endpoint(&s3.endpoint).with_allow_http(s3.endpoint.starts_with("http://"));
        }
        Ok(Self::new(Arc::new(builder.build().map_err(|error| error.to_string())?)))
    }

    fn new(store: Arc<dyn ObjectStore>) -> Self {
        Self { store, cache: Mutex::default() }
    }

    /// Stores contents, once, and returns their SHA-256 in hexadecimal digits.
    pub async fn put(&self, tenant: TenantId, contents: Bytes) -> Result<String, Refusal> {
        let sha256 = format!("{:x}", Sha256::digest(&contents));
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.store.put_opts(&place(tenant, &sha256), contents.clone().into(), options).await {
            Ok(_) | Err(object_store::Error::AlreadyExists { .. }) => {}
            Err(error) => return Err(unavailable(&error)),
        }
        self.cache.lock().add(tenant, &sha256, contents);
        Ok(sha256)
    }

    /// Returns contents by their SHA-256.
    pub async fn get(&self, tenant: TenantId, sha256: &str) -> Result<Bytes, Refusal> {
        if let Some(contents) = self.cache.lock().get(tenant, sha256) {
            return Ok(contents);
        }
        let found = self.store.get(&place(tenant, sha256)).await.map_err(|error| unavailable(&error))?;
        let contents = found.bytes().await.map_err(|error| unavailable(&error))?;
        if format!("{:x}", Sha256::digest(&contents)) != sha256 {
            tracing::error!(%tenant, sha256, "a stored blob is damaged");
            return Err(Refusal::new(Code::Internal, "the stored contents are damaged"));
        }
        self.cache.lock().add(tenant, sha256, contents.clone());
        Ok(contents)
    }

    /// Returns how often contents were found in memory, and how often not.
    pub fn cache_counts(&self) -> (u64, u64) {
        let cache = self.cache.lock();
        (cache.hits, cache.misses)
    }
}

/// Contents in memory; the oldest go first.
#[derive(Default)]
struct Cache {
    contents: std::collections::HashMap<(TenantId, String), Bytes>,
    order: std::collections::VecDeque<(TenantId, String)>,
    bytes: usize,
    hits: u64,
    misses: u64,
}

impl Cache {
    fn get(&mut self, tenant: TenantId, sha256: &str) -> Option<Bytes> {
        let found = self.contents.get(&(tenant, sha256.to_owned())).cloned();
        match found {
            Some(_) => self.hits += 1,
            None => self.misses += 1,
        }
        found
    }

    fn add(&mut self, tenant: TenantId, sha256: &str, contents: Bytes) {
        if contents.len() > LONGEST_CACHED {
            return;
        }
        let key = (tenant, sha256.to_owned());
        // Copied: a slice would keep the whole request alive.
        let contents = Bytes::copy_from_slice(&contents);
        let added = contents.len();
        if self.contents.insert(key.clone(), contents).is_some() {
            return;
        }
        self.bytes += added;
        self.order.push_back(key);
        while self.bytes > CACHED {
            let Some(oldest) = self.order.pop_front() else { return };
            self.bytes -= self.contents.remove(&oldest).map_or(0, |contents| contents.len());
        }
    }
}

fn place(tenant: TenantId, sha256: &str) -> Path {
    Path::from_iter([tenant.to_string().as_str(), sha256.get(..2).unwrap_or("00"), sha256])
}

fn unavailable(error: &object_store::Error) -> Refusal {
    tracing::warn!(%error, "the store of workspace contents failed");
    Refusal::new(Code::StateUnavailable, "the store of workspace contents cannot be used now")
        .hint("try again; the operator's log has the cause")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn contents_read_back_per_tenant_and_damage_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::in_directory(dir.path()).unwrap();
        let (ours, theirs) = (TenantId::new(), TenantId::new());
        let binary = Bytes::from_static(b"\0\xff binary");
        let sha256 = blobs.put(ours, binary.clone()).await.unwrap();
        assert_eq!(blobs.put(ours, binary.clone()).await.unwrap(), sha256, "stored once");
        assert_eq!(blobs.get(ours, &sha256).await.unwrap(), binary);
        assert!(blobs.get(theirs, &sha256).await.is_err(), "another tenant's");
        let file = dir.path().join(place(ours, &sha256).to_string());
        std::fs::write(file, "other").unwrap();
        let fresh = Blobs::in_directory(dir.path()).unwrap();
        assert_eq!(fresh.get(ours, &sha256).await.unwrap_err().code, Code::Internal);
    }

    #[test]
    fn the_cache_is_bounded() {
        let (mut cache, tenant) = (Cache::default(), TenantId::new());
        for number in 0..40 {
            cache.add(tenant, &number.to_string(), vec![0; 1 << 20].into());
        }
        cache.add(tenant, "long", vec![0; LONGEST_CACHED + 1].into());
        assert!(cache.bytes <= CACHED && cache.contents.len() == 16 && cache.order.len() == 16);
        assert!(cache.get(tenant, "0").is_none() && cache.get(tenant, "39").is_some());
        assert!(cache.get(tenant, "long").is_none());
        assert_eq!((cache.hits, cache.misses), (1, 2));
    }
}
