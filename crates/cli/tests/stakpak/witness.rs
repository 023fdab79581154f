//! G6, C-P23 to C-P25: what calls did, counted over a SIGKILL of the binary at each point of a call. The table is the promise.
//!
//! A kill *at a write* of the journal leaves out what was to be recorded, a kill *at a sync* leaves it recorded and stops
//! before anything follows from it: `strace` kills the binary as it enters that call. Without a `strace` that may attach, only
//! the rows that need none are played. Kills at every point of longer conversations: `just crash`. Calls with a key: `notify.rs`.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use stakpak_client::{ClientError, Message, RunOverrides, SendMessageOptions, ToolDecisionAction, ToolDecisionInput};
use stakpak_protocol::AutoApproveOverride;
use stakpak_test_support::{Reply, ScriptedLlm, write_executable};

use crate::{
    crash::{configured, until_name},
    support::{Home, PATIENCE, Up, until},
};

use Call::{Append, Create, Read, Remove, Replace};
use Point::{Changed, Decided, Decides, Intended, Proposed, Recorded, Running, Unrecorded};
use Told::{Done, Unknown};

/// What is called, when the binary dies, how often it has had its effect then and in the end, and what the model is told.
type Row = (Call, Point, usize, usize, Told);

const UNSAFE: &[Row] = &[
    (Append, Proposed, 0, 1, Done),
    (Append, Decides, 0, 1, Done),
    (Append, Intended, 0, 0, Unknown),
    (Append, Running, 1, 1, Unknown),
    (Append, Unrecorded, 1, 1, Unknown),
    (Append, Recorded, 1, 1, Done),
];

const PURE: &[Row] = &[
    (Read, Proposed, 0, 1, Done),
    (Read, Intended, 0, 1, Done),
    (Read, Running, 1, 2, Done),
    (Read, Unrecorded, 1, 2, Done),
];

const PROBED: &[Row] = &[
    (Create, Proposed, 0, 1, Done),
    (Create, Decided, 0, 1, Done),
    (Create, Intended, 0, 1, Done),
    (Create, Unrecorded, 1, 1, Done),
    (Create, Recorded, 1, 1, Done),
    (Create, Changed, 0, 0, Unknown),
    (Replace, Intended, 0, 1, Done),
    (Replace, Unrecorded, 1, 1, Done),
    (Replace, Changed, 0, 0, Unknown),
    (Remove, Intended, 0, 1, Done),
    (Remove, Unrecorded, 1, 1, Done),
    (Remove, Changed, 0, 0, Unknown),
];

/// A tool of each class of effects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    /// A command that appends a line to a file, and ends when it is let go.
    Append,
    /// A command that counts as one that changes nothing; it appends a line as well, and says what it is given.
    Read,
    Create,
    Replace,
    Remove,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Point {
    /// It waits for a person.
    Proposed,
    /// The person's decision is not written down yet.
    Decides,
    /// It is, and the call is not.
    Decided,
    /// The call is written down, and nothing of it has started.
    Intended,
    /// The same, and before the next start somebody else changes what it was about.
    Changed,
    Running,
    /// It has ended, and its result is not written down.
    Unrecorded,
    /// It is, and the model was not asked.
    Recorded,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Done,
    Unknown,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_with_effects_runs_once_at_most() {
    play(UNSAFE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_without_effects_runs_again() {
    play(PURE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_effect_can_be_seen_is_judged_by_it() {
    play(PROBED).await;
}

async fn play(rows: &[Row]) {
    let can_attach = can_attach();
    for row in rows {
        if can_attach || matches!(row.1, Proposed | Running) {
            Stage::new(row.0).await.play(*row).await;
        } else {
            println!("skipped, strace may not attach here: {row:?}");
        }
    }
}

/// The decision is recorded, and its call waits for another one: that one's outcome is unknown, this one runs.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_was_accepted_runs_after_the_restart() {
    let call = |id, command| (id, "stakpak__run_command", json!({ "command": command }));
    let calls = [call("call_1", "echo one >> witness; sleep 60"), call("call_2", "echo two >> witness")];
    let llm = ScriptedLlm::start().await;
    llm.push(Reply::tool_calls(&calls));
    llm.always(Reply::text(["understood"]));
    let stage = Stage { call: Append, home: configured(&llm), llm, pipe: None };
    fs::create_dir(stage.home.path("work")).unwrap();
    let up = stage.up();
    let session = up.client().create_session("witness").await.unwrap().id.to_string();
    up.client().send_messages(&session, vec![Message::user("go")], asking()).await.unwrap();
    stage.until_pending(&up, &session).await;
    accept(&up, &session, "call_1").await.unwrap();
    until("the first call to start", || stage.work("witness").exists().then_some(()));
    accept(&up, &session, "call_2").await.unwrap();
    up.kill();

    let up = stage.up();
    let mut events = up.client().subscribe_events(&session, Some(0)).await.unwrap();
    until_name(&mut events, "run_completed").await;
    assert_eq!(fs::read_to_string(stage.work("witness")).unwrap(), "one\ntwo\n");
    let request = stage.llm.requests().pop().unwrap().body;
    let results = request["messages"].as_array().unwrap().iter().filter(|message| message["role"] == "tool");
    let unknown: Vec<bool> = results.map(|result| result["content"].to_string().contains("OUTCOME_UNKNOWN")).collect();
    assert_eq!(unknown, [true, false], "{request}");
}

fn can_attach() -> bool {
    let Ok(mut target) = Command::new("sleep").arg("60").spawn() else { return false };
    let attached = Command::new("timeout")
        .args(["-s", "INT", "1", "strace", "-f", "-o", "/dev/null", "-p", &target.id().to_string()])
        .output()
        .is_ok_and(|output| String::from_utf8_lossy(&output.stderr).contains("attached"));
    let _ = target.kill();
    let _ = target.wait();
    attached
}

struct Stage {
    call: Call,
    home: Home,
    llm: ScriptedLlm,
    /// Open while the command reads.
    pipe: Option<fs::File>,
}

impl Stage {
    async fn new(call: Call) -> Self {
        let llm = ScriptedLlm::start().await;
        let home = configured(&llm);
        let stage = Self { call, home, llm, pipe: None };
        fs::create_dir(stage.home.path("work")).unwrap();
        match call {
            Append | Create => {}
            Read => {
                nix::unistd::mkfifo(&stage.work("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
                write_executable(stage.work("uptime"), "#!/bin/sh\necho once >> witness\nexec cat pipe\n");
            }
            Replace | Remove => fs::write(stage.work("file"), "a").unwrap(),
        }
        let (tool, arguments) = stage.asked();
        stage.llm.push(Reply::tool_call("call_1", tool, &arguments));
        stage.llm.always(Reply::text(["understood"]));
        stage
    }

    fn work(&self, name: &str) -> PathBuf {
        self.home.path("work").join(name)
    }

    fn asked(&self) -> (&'static str, Value) {
        let path = self.work("file");
        match self.call {
            Append => {
                let command = "echo once >> witness; while [ ! -e go ]; do sleep 0.01; done";
                ("stakpak__run_command", json!({ "command": command }))
            }
            Read => ("stakpak__run_command", json!({ "command": "uptime" })),
            Create => ("stakpak__create", json!({ "path": path, "file_text": "ab" })),
            Replace => ("stakpak__str_replace", json!({ "path": path, "old_str": "a", "new_str": "ab" })),
            Remove => ("stakpak__remove", json!({ "path": path })),
        }
    }

    /// How often the call has had its effect.
    fn effects(&self) -> usize {
        let file = fs::read_to_string(self.work("file"));
        match self.call {
            Append | Read => fs::read_to_string(self.work("witness")).unwrap_or_default().lines().count(),
            Create | Replace => file.unwrap_or_default().matches('b').count(),
            Remove => usize::from(file.is_err()),
        }
    }

    /// With what is in the working directory before what the system has.
    fn up(&self) -> Up {
        let work = self.home.path("work").display().to_string();
        let mut command = self.home.command(&["up", "--json", "--bind", "127.0.0.1:0", "--workdir", &work]);
        command.env("PATH", format!("{work}:{}", std::env::var("PATH").unwrap()));
        self.home.start(command)
    }

    async fn play(mut self, row: Row) {
        let (_, point, then, in_the_end, told) = row;
        let up = self.up();
        let client = up.client();
        let session = client.create_session("witness").await.unwrap().id.to_string();
        client.send_messages(&session, vec![Message::user("go")], asking()).await.unwrap();
        self.until_pending(&up, &session).await;
        self.die(up, &session, point).await;
        self.pipe = None;
        assert_eq!(self.effects(), then, "{row:?}: before the restart");
        if point == Changed {
            fs::write(self.work("file"), "theirs").unwrap();
        }

        fs::write(self.work("go"), "").unwrap();
        let up = self.up();
        if matches!(point, Proposed | Decides) {
            self.until_pending(&up, &session).await;
            accept(&up, &session, "call_1").await.unwrap();
        }
        if self.call == Read {
            self.until_running();
            self.feed("second");
        }
        let mut events = up.client().subscribe_events(&session, Some(0)).await.unwrap();
        let seen = until_name(&mut events, "run_completed").await;
        assert_eq!(seen.iter().filter(|(envelope, _)| envelope.event.is_terminal()).count(), 1, "{row:?}");
        assert_eq!(self.effects(), in_the_end, "{row:?}: in the end");
        let requests = self.llm.requests();
        assert_eq!(requests.len(), 2, "{row:?}: a recorded answer is not asked for again");
        let result = requests[1].body["messages"].as_array().unwrap().last().unwrap().clone();
        assert_eq!((&result["role"], &result["tool_call_id"]), (&json!("tool"), &json!("call_1")), "{row:?}");
        let text = result["content"].as_str().unwrap();
        assert_eq!(text.contains("OUTCOME_UNKNOWN"), told == Unknown, "{row:?}: {text}");
        assert_eq!(text.starts_with("[error]"), told == Unknown, "{row:?}: {text}");
        if self.call == Read {
            assert!(text.contains("second"), "{row:?}: {text}");
        }
        let end = &seen.last().unwrap().0;
        let run = up.client().get_run(&session, &end.run_id.unwrap().to_string()).await.unwrap();
        assert_eq!(run.last_event_id, end.id, "{row:?}: nothing comes after the end");
    }

    /// Goes on to the point, and dies there.
    async fn die(&mut self, mut up: Up, session: &str, point: Point) {
        let journal = self.home.path(".stakpak/autopilot/journal.db-wal");
        let (write, sync) = ("pwrite64", "fsync,fdatasync");
        // One transaction for the decision and the call, or one for each where somebody looks at the file in between.
        let looks = u32::from(matches!(self.call, Create | Replace | Remove));
        let strace = match point {
            Proposed => None,
            Decides => Some(Strace::attach(&up, write, &journal, 1)),
            Decided => Some(Strace::attach(&up, sync, &journal, 1)),
            Intended | Changed => Some(Strace::attach(&up, sync, &journal, 1 + looks)),
            Unrecorded if looks > 0 => Some(Strace::attach(&up, sync, &self.home.path("work"), 1)),
            Recorded if looks > 0 => Some(Strace::attach(&up, sync, &journal, 3)),
            Running | Unrecorded | Recorded => {
                accept(&up, session, "call_1").await.unwrap();
                self.until_running();
                match point {
                    Unrecorded => Some(Strace::attach(&up, write, &journal, 1)),
                    Recorded => Some(Strace::attach(&up, sync, &journal, 1)),
                    _ => None,
                }
            }
        };
        if strace.is_none() {
            return up.kill();
        }
        if looks > 0 || matches!(point, Decides | Intended) {
            // Whoever decides gets no answer.
            let _ = accept(&up, session, "call_1").await;
        } else {
            self.let_go();
        }
        until("the kill", || up.child.try_wait().unwrap());
    }

    async fn until_pending(&self, up: &Up, session: &str) {
        let since = Instant::now();
        while up.client().pending_tools(session).await.unwrap().tool_calls.is_empty() {
            assert!(since.elapsed() < PATIENCE, "nothing waits");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn until_running(&mut self) {
        match self.call {
            Append => until("the command to start", || self.work("witness").exists().then_some(())),
            _ => self.pipe = Some(until("the command to read", || open_for_writing(&self.work("pipe")))),
        }
    }

    /// The command ends.
    fn let_go(&mut self) {
        match self.call {
            Append => fs::write(self.work("go"), "").unwrap(),
            _ => self.feed("first"),
        }
    }

    fn feed(&mut self, text: &str) {
        self.pipe.take().unwrap().write_all(text.as_bytes()).unwrap();
    }
}

/// Whatever policy says.
fn asking() -> SendMessageOptions {
    let auto_approve = Some(AutoApproveOverride::Mode("none".into()));
    let overrides = RunOverrides { auto_approve, ..RunOverrides::default() };
    SendMessageOptions { overrides: Some(overrides), ..SendMessageOptions::default() }
}

async fn accept(up: &Up, session: &str, call: &str) -> Result<(), ClientError> {
    let run = up.client().pending_tools(session).await?.run_id.unwrap().to_string();
    let decision = ToolDecisionInput { action: ToolDecisionAction::Accept, content: None };
    up.client().resolve_tools(session, &run, [(call.to_owned(), decision)].into()).await.map(drop)
}

/// None: nobody reads.
fn open_for_writing(pipe: &Path) -> Option<fs::File> {
    fs::OpenOptions::new().write(true).custom_flags(nix::libc::O_NONBLOCK).open(pipe).ok()
}

/// Kills a process as it enters a system call. Ended when dropped.
struct Strace(Child);

impl Strace {
    /// At the `when`-th of these calls on this path, counted from now.
    fn attach(up: &Up, calls: &str, path: &Path, when: u32) -> Self {
        let mut strace = Command::new("strace");
        strace.args(["-f", "-o", "/dev/null", "-e", &format!("trace={calls}"), "-P", path.to_str().unwrap()]);
        strace.args(["-e", &format!("inject={calls}:signal=SIGKILL:when={when}"), "-p", &up.child.id().to_string()]);
        let mut strace = strace.stderr(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(strace.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("attached") {
            line.clear();
            assert!(said.read_line(&mut line).unwrap() > 0, "strace does not attach");
        }
        std::thread::spawn(move || said.lines().for_each(drop));
        Self(strace)
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
