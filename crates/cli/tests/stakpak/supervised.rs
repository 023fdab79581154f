//! A scheduler that fails at its work: it is shown and started again, everything else goes on, and at last the process ends.

use rusqlite::Connection;
use serde_json::Value;

use crate::support::{Home, Up, stderr, until};

const RARELY: &str = "[[schedules]]\nname = 'beat'\ncron = '0 0 1 1 *'\nprompt = 'status'\ninteraction = 'silent'\n";

/// A run that is due, and a ledger that refuses to start it.
fn failing() -> (Home, Up) {
    let home = Home::new();
    home.write("autopilot.toml", RARELY);
    let up = home.up_with(&["--no-gateway"]);
    ledger(&home)
        .execute_batch(
            "CREATE TRIGGER refuse BEFORE UPDATE OF status ON runs WHEN NEW.status = 'running'
             BEGIN SELECT RAISE(ABORT, 'on purpose'); END",
        )
        .unwrap();
    let triggered = home.run(&["schedule", "trigger", "beat"]);
    assert!(triggered.status.success(), "{}", stderr(&triggered));
    (home, up)
}

fn ledger(home: &Home) -> Connection {
    Connection::open(home.path(".stakpak/autopilot/autopilot.db")).unwrap()
}

fn status(home: &Home) -> Value {
    serde_json::from_slice(&home.run(&["status", "--json"]).stdout).unwrap()
}

/// A-P24: what failed is shown by `/v1/ready` and `status`, is started again, and goes on where it was; the server answers meanwhile.
#[tokio::test]
async fn a_scheduler_that_fails_is_shown_and_started_again() {
    let (home, up) = failing();
    let ready = reqwest::Client::new();
    let ready = async || ready.get(format!("{}/v1/ready", up.url)).send().await.unwrap();
    let failed = async || {
        let answer = ready().await;
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap()["checks"]["scheduler"].clone())
    };
    let mut seen = failed().await;
    while seen.1 != "failed" {
        assert!(["ok", "degraded"].iter().any(|known| seen.1 == *known), "{seen:?}");
        seen = failed().await;
    }
    assert_eq!(seen.0, 503);
    let shown =
        until("status shows it", || Some(status(&home)).filter(|status| status["scheduler"]["running"] == false));
    assert_eq!((&shown["healthy"], &shown["server"]["reachable"]), (&Value::from(false), &Value::from(true)));
    assert!(shown["scheduler"]["error"].as_str().unwrap().contains("tried again"), "{shown:#}");
    assert!(up.client().health().await.is_ok());

    ledger(&home).execute_batch("DROP TRIGGER refuse").unwrap();
    let shown = until("it goes on", || {
        Some(status(&home)).filter(|status| status["scheduler"]["recent_runs"][0]["status"] == "completed")
    });
    assert_eq!(shown["checks"]["scheduler"], "degraded", "that it failed is not forgotten at once");
    assert_eq!(up.stop(), Some(0));
}

/// A-P24: five failures in ten minutes are answered by an orderly end with exit code 1, for the service manager.
#[test]
fn a_scheduler_that_fails_again_and_again_ends_the_process() {
    let (home, mut up) = failing();
    let code = until("the process ends", || up.child.try_wait().unwrap()).code();
    assert_eq!(code, Some(1));
    let mut told = String::new();
    std::io::Read::read_to_string(&mut up.child.stderr.take().unwrap(), &mut told).unwrap();
    assert!(told.contains("the scheduler failed 5 times in 10 minutes"), "{told}");
    let waiting: i64 =
        ledger(&home).query_row("SELECT count(*) FROM runs WHERE status = 'pending'", [], |row| row.get(0)).unwrap();
    assert_eq!(waiting, 1, "nothing is lost");
}
