//! The raw frames of an answer, as genai decodes them.

use std::sync::{Arc, Mutex, PoisonError};

use genai::chat::{ChatFrameSink, FrameCtx, RawFrameRef};

use crate::dialect::{Collected, Frames};

/// Hands frames to the reader of their protocol.
#[derive(Debug, Clone)]
pub(super) struct Wire(Arc<Mutex<Box<dyn Frames>>>);

impl Wire {
    pub(super) fn new(frames: Box<dyn Frames>) -> Self {
        Self(Arc::new(Mutex::new(frames)))
    }

    /// What was collected.
    pub(super) fn take(&self) -> Collected {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl ChatFrameSink for Wire {
    fn on_frame(&self, _: &FrameCtx, frame: RawFrameRef<'_>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).add(frame.data);
    }
}
