//! A workspace as a ZIP archive.

use std::io::{Cursor, Write};

use bytes::Bytes;
use protocol::{Code, Refusal};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::Collab;
use super::agent::Agent;

/// Most bytes of contents in one archive, which is made in memory.
const MOST: i64 = 64 << 20;

/// Files of one read.
const PAGE: u64 = 500;

impl Collab {
    /// Returns the current files of a task as a ZIP archive.
    ///
    /// # Errors
    /// [`Code::BodyTooLarge`] for more than 64 MiB.
    pub async fn archive(&self, agent: &Agent, task: &str) -> Result<Bytes, Refusal> {
        let scope = self.db.tenant(agent.tenant);
        let mut files = Vec::new();
        loop {
            let after = files.last().map(|file: &entity::collab::File| file.path.clone());
            let page = scope.list_files(&agent.member, task, "", after.as_deref(), PAGE).await?;
            let last = (page.len() as u64) < PAGE;
            files.extend(page);
            if last {
                break;
            }
        }
        let size: i64 = files.iter().map(|file| file.size).sum();
        if size > MOST {
            let reason = format!("the workspace has {size} bytes, and an archive has at most {MOST}");
            return Err(Refusal::new(Code::BodyTooLarge, reason).hint("read the files one by one"));
        }
        let failed = |error: std::io::Error| {
            tracing::error!(%error, "an archive was not made");
            Refusal::new(Code::Internal, "the archive could not be made")
        };
        let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .unix_permissions(0o644);
        for file in files {
            let contents = self.blobs.get(agent.tenant, &file.sha256).await?;
            archive.start_file(file.path, options).map_err(|error| failed(error.into()))?;
            archive.write_all(&contents).map_err(failed)?;
        }
        let written = archive.finish().map_err(|error| failed(error.into()))?;
        Ok(written.into_inner().into())
    }
}
