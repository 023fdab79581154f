//! The journal's file, as `/metrics` shows it.

use futures_util::future::BoxFuture;
use stakpak_server::{Measures, Part};
use stakpak_store::SqliteJournal;

/// What the writer has counted.
pub(crate) struct JournalFile(pub(crate) SqliteJournal);

impl Part for JournalFile {
    fn measure<'a>(&'a self, measures: &'a mut Measures) -> BoxFuture<'a, ()> {
        self.measure(measures);
        Box::pin(std::future::ready(()))
    }
}

impl JournalFile {
    #[expect(clippy::cast_precision_loss, reason = "counts and microseconds")]
    fn measure(&self, measures: &mut Measures) {
        let stats = self.0.stats();
        let times = stats.commit_microseconds;
        let buckets = times.buckets().map(|(bound, count)| (bound as f64 / 1e6, count));
        let help = "Time of a commit of the journal, sync of the disk included.";
        let name = "stakpak_journal_commit_duration_seconds";
        measures.histogram(name, help, buckets, times.count(), times.sum as f64 / 1e6);
        let jobs = stats.commit_jobs;
        let buckets = jobs.buckets().map(|(bound, count)| (bound as f64, count));
        let help = "Appends that one commit of the journal made durable.";
        measures.histogram("stakpak_journal_commit_jobs", help, buckets, jobs.count(), jobs.sum as f64);
        let help = "Commits of the journal that failed, with every append in them.";
        let failed = stats.failed_commits as f64;
        measures.counter("stakpak_journal_commit_failures_total", help, &[], failed);
        let help = "Appends that wait for their commit.";
        measures.gauge("stakpak_journal_queue_jobs", help, &[], stats.waiting as f64);
    }
}
