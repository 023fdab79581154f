//! Files, both ways.

use std::path::Path;

use teloxide_reqwest::Response;
use tokio::io::AsyncReadExt;

use super::{
    TelegramChannel,
    api::FILE_TIMEOUT,
    failure::network,
    methods::{GetFile, SendDocument},
    send::{Place, cut},
};
use crate::{Address, ChannelError, DeliveryReceipt, OutboundFile};

/// UTF-16 units of the text above a file.
const LONGEST_CAPTION: usize = 1024;

impl TelegramChannel {
    pub(super) async fn upload(&self, address: &Address, file: &OutboundFile) -> Result<DeliveryReceipt, ChannelError> {
        let caption = file.caption.as_deref().filter(|caption| !caption.trim().is_empty());
        let caption = caption.map(|caption| cut(caption, LONGEST_CAPTION));
        let send = |place: Place| {
            self.api.upload(SendDocument {
                chat_id: place.chat,
                message_thread_id: place.thread,
                name: file.name.clone(),
                content: file.content.clone(),
                caption: caption.clone(),
            })
        };
        let (sent, place) = self.deliver(address, send).await?;
        Ok(place.receipt(&sent))
    }

    /// From the configured host only, or from this machine if its server says so.
    pub(super) async fn download(&self, id: &str, limit: u64) -> Result<Vec<u8>, ChannelError> {
        let file = self.api.try_call(GetFile { file_id: id.to_owned() }).await?;
        if file.file_size.is_some_and(|size| size > limit) {
            return Err(too_large(limit));
        }
        let gone = || ChannelError::Rejected { reason: "the platform has no such file any more".to_owned() };
        let path = file.file_path.ok_or_else(gone)?;
        if self.local_mode && Path::new(&path).is_absolute() {
            return read(Path::new(&path), limit).await;
        }
        let request = self.api.client().get(self.api.file_url(&path)?).timeout(FILE_TIMEOUT);
        let fails = |error: teloxide_reqwest::Error| network(self.api.host().to_owned(), &error.without_url());
        let answer = request.send().await.map_err(fails)?;
        if !answer.status().is_success() {
            let reason = format!("the file is not there: {}", answer.status());
            return Err(ChannelError::Rejected { reason });
        }
        body(answer, limit).await?.map_err(fails)
    }
}

async fn body(mut answer: Response, limit: u64) -> Result<Result<Vec<u8>, teloxide_reqwest::Error>, ChannelError> {
    let mut content = Vec::new();
    loop {
        match answer.chunk().await {
            Ok(Some(chunk)) if content.len() + chunk.len() > usize::try_from(limit).unwrap_or(usize::MAX) => {
                return Err(too_large(limit));
            }
            Ok(Some(chunk)) => content.extend_from_slice(&chunk),
            Ok(None) => return Ok(Ok(content)),
            Err(error) => return Ok(Err(error)),
        }
    }
}

async fn read(path: &Path, limit: u64) -> Result<Vec<u8>, ChannelError> {
    let unreadable =
        |error: std::io::Error| ChannelError::Rejected { reason: format!("the file cannot be read: {error}") };
    let mut content = Vec::new();
    let file = tokio::fs::File::open(path).await.map_err(unreadable)?;
    file.take(limit + 1).read_to_end(&mut content).await.map_err(unreadable)?;
    if content.len() as u64 > limit { Err(too_large(limit)) } else { Ok(content) }
}

fn too_large(limit: u64) -> ChannelError {
    ChannelError::Rejected { reason: format!("the file is larger than {} MiB", limit / 1024 / 1024) }
}
