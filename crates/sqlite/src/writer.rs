//! The one thread that writes.
//!
//! Its queue has no bound: every caller waits for the commit of its own job, so the queue is never longer than there
//! are callers, and a bound would only move the waiting jobs from the queue into their futures.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::Error;
use crate::checkpoint::Checkpointer;
use crate::group::{self, Task};
use crate::reader::Readers;
use crate::stats::{Counters, Stats};

/// Without a task for so long, the connections let go of what they have in memory.
const REST: Duration = Duration::from_secs(2);

/// The way to the writer's thread.
#[derive(Debug)]
pub(crate) struct Writer {
    queue: Mutex<Option<Sender<Box<dyn Task>>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    counters: Arc<Counters>,
}

impl Writer {
    /// `checkpointer` and `readers` are for databases that have a log.
    pub(crate) fn start(
        connection: Connection,
        checkpointer: Option<Checkpointer>,
        readers: Option<Arc<Readers>>,
    ) -> Result<Self, Error> {
        let (queue, tasks) = mpsc::channel();
        let counters = Arc::new(Counters::default());
        let counted = Arc::clone(&counters);
        let thread = thread::Builder::new()
            .name("sqlite-writer".into())
            .spawn(move || work(&Tasks { queue: tasks, readers }, &connection, checkpointer, &counted))
            .map_err(Error::Thread)?;
        Ok(Self { queue: Mutex::new(Some(queue)), thread: Mutex::new(Some(thread)), counters })
    }

    /// Puts a task into the queue; never blocks for longer than that takes.
    pub(crate) fn send(&self, task: Box<dyn Task>) -> Result<(), Error> {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        self.counters.queued();
        queue.as_ref().and_then(|queue| queue.send(task).ok()).ok_or(Error::Closed)
    }

    /// Takes no more tasks, runs those that wait, checkpoints, and ends the thread. Every caller waits for the end.
    pub(crate) fn close(&self) {
        drop(self.queue.lock().unwrap_or_else(PoisonError::into_inner).take());
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        // A job may own the last handle to its own database; its thread cannot wait for itself.
        if let Some(thread) = thread.take()
            && thread.thread().id() != thread::current().id()
            && thread.join().is_err()
        {
            tracing::error!("the database writer panicked");
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        self.counters.stats()
    }
}

/// What is to be done, and what rests while there is nothing.
struct Tasks {
    queue: Receiver<Box<dyn Task>>,
    readers: Option<Arc<Readers>>,
}

fn work(tasks: &Tasks, connection: &Connection, mut checkpointer: Option<Checkpointer>, counters: &Counters) {
    let mut group = Vec::new();
    while let Some(first) = tasks.next(connection) {
        let begun = Instant::now();
        let committed = group::commit(connection, first, &tasks.queue, &mut group).map_err(Arc::new);
        match &committed {
            Ok(()) => counters.committed(group.len(), begun.elapsed()),
            Err(error) => {
                counters.failed(group.len());
                tracing::error!(%error, jobs = group.len(), "could not commit");
                group::abandon(connection);
            }
        }
        for task in group.drain(..) {
            task.settle(committed.clone());
        }
        if let Some(checkpointer) = &mut checkpointer {
            checkpointer.after_commit();
        }
    }
    if let Some(checkpointer) = checkpointer {
        checkpointer.finish();
    }
}

impl Tasks {
    fn next(&self, connection: &Connection) -> Option<Box<dyn Task>> {
        match self.queue.recv_timeout(REST) {
            Ok(task) => Some(task),
            Err(RecvTimeoutError::Timeout) => {
                if let Err(error) = connection.release_memory() {
                    tracing::debug!(%error, "could not let go of cached pages");
                }
                if let Some(readers) = &self.readers {
                    readers.rest();
                }
                self.queue.recv().ok()
            }
            Err(RecvTimeoutError::Disconnected) => None,
        }
    }
}
