//! Lists: sessions page by page, active runs.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use stakpak_agent_core::AgentConfig;

use crate::support::{Http, Step, TestServer};

async fn sessions(http: &Http, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for n in 0..count {
        ids.push(http.session(&format!("number {n}")).await);
    }
    ids
}

fn ids(page: &Value) -> Vec<String> {
    page["sessions"].as_array().unwrap().iter().map(|session| session["id"].as_str().unwrap().to_owned()).collect()
}

/// P33: `total` is the number of matches for every `limit` and `offset`.
#[tokio::test]
async fn the_total_is_that_of_all_matches() {
    let server = TestServer::start([]).await;
    let http = server.http();
    let mut newest_first = sessions(&http, 5).await;
    newest_first.reverse();
    for limit in [0, 1, 2, 5, 1_000, 5_000] {
        for offset in [0, 1, 4, 5, 9] {
            let (status, page) = http.get(&format!("/v1/sessions?limit={limit}&offset={offset}")).await;
            assert_eq!((status, &page["total"]), (200, &json!(5)), "{limit} {offset}");
            let expected: Vec<_> = newest_first.iter().skip(offset).take(limit).cloned().collect();
            assert_eq!(ids(&page), expected, "{limit} {offset}");
            let more = limit > 0 && offset + limit < 5;
            assert_eq!(page.get("next").is_some(), more, "`next` is absent on the last page: {limit} {offset}");
        }
    }
    assert_eq!(http.get("/v1/sessions?search=number%201").await.1["total"], 1);
    for limit in ["-1", "x", "1.5"] {
        let (status, body) = http.get(&format!("/v1/sessions?limit={limit}")).await;
        assert_eq!((status, &body["code"]), (400, &json!("invalid_query")), "{limit}");
    }
}

/// P33: paging by `next` while sessions change, are made and are deleted neither skips nor repeats; a restart between two
/// pages makes no difference.
#[tokio::test]
async fn paging_by_next_neither_skips_nor_repeats() {
    let mut server = TestServer::start([]).await;
    let all = sessions(&server.http(), 30).await;
    let (mut given, mut deleted) = (Vec::new(), BTreeSet::new());
    let mut path = "/v1/sessions?limit=4&search=number".to_owned();
    loop {
        let http = server.http();
        let (status, page) = http.get(&path).await;
        assert_eq!(status, 200, "{page}");
        given.extend(ids(&page));
        let Some(next) = page["next"].as_str() else { break };
        // Search and limit are those of the first page.
        path = format!("/v1/sessions?page={next}");
        http.session("number new").await;
        for touched in all.iter().skip(given.len() % 3).step_by(3) {
            http.patch(&format!("/v1/sessions/{touched}"), json!({"visibility": "PUBLIC"})).await;
        }
        if let Some(unwanted) = all.iter().find(|id| !given.contains(id) && !deleted.contains(*id)) {
            http.delete(&format!("/v1/sessions/{unwanted}")).await;
            deleted.insert(unwanted.clone());
        }
        if given.len() == 12 {
            server = TestServer::start_in(server.crash().await, [], AgentConfig::default()).await;
        }
    }
    assert!(deleted.len() > 3, "{deleted:?}");
    let distinct: BTreeSet<_> = given.iter().cloned().collect();
    assert_eq!(distinct.len(), given.len(), "a session is given twice");
    let expected: BTreeSet<_> = all.into_iter().filter(|id| !deleted.contains(id)).collect();
    assert_eq!(distinct, expected);
}

/// While nothing changes the pages are the list.
#[tokio::test]
async fn the_pages_in_order_are_the_list() {
    let server = TestServer::start([]).await;
    let http = server.http();
    let all = sessions(&http, 11).await;
    http.patch(&format!("/v1/sessions/{}", all[3]), json!({"title": "number 3, changed"})).await;
    http.delete(&format!("/v1/sessions/{}", all[5])).await;
    for (query, count) in [("", 10), ("&status=all", 11), ("&status=deleted", 1), ("&search=NUMBER", 10)] {
        let whole = ids(&http.get(&format!("/v1/sessions?limit=100{query}")).await.1);
        assert_eq!(whole.len(), count, "{query}");
        let mut pages = Vec::new();
        let mut path = format!("/v1/sessions?limit=3{query}");
        loop {
            let (_, page) = http.get(&path).await;
            assert_eq!(page["total"], count, "{query}");
            pages.extend(ids(&page));
            let Some(next) = page["next"].as_str() else { break };
            // A client that sends its filter again gets the same.
            path = format!("/v1/sessions?limit=3{query}&page={next}");
        }
        assert_eq!(pages, whole, "{query}");
    }
}

#[tokio::test]
async fn a_page_that_no_list_gave_is_refused() {
    let server = TestServer::start([]).await;
    let http = server.http();
    sessions(&http, 2).await;
    let next = http.get("/v1/sessions?limit=1").await.1["next"].as_str().unwrap().to_owned();
    let short = &next[..next.len() / 2];
    for page in ["", "x", "%00", "e30K", short] {
        let (status, body) = http.get(&format!("/v1/sessions?page={page}")).await;
        assert_eq!((status, &body["code"]), (400, &json!("invalid_query")), "{page}");
        assert!(body["error"].as_str().unwrap().contains("page"), "{body}");
    }
}

/// `%` and `_` are letters like others.
#[tokio::test]
async fn a_search_is_literal() {
    let server = TestServer::start([]).await;
    let http = server.http();
    for title in ["100% sure", "100 sure", "a_b", "axb"] {
        http.session(title).await;
    }
    for (search, total) in [("%25", 1), ("0%25", 1), ("_", 1), ("A_B", 1), ("SURE", 2), ("", 4), ("%25_", 0)] {
        assert_eq!(http.get(&format!("/v1/sessions?search={search}")).await.1["total"], total, "{search}");
    }
}

/// P34: any case of the known ones, nothing else.
#[tokio::test]
async fn an_unknown_status_is_refused() {
    let server = TestServer::start([]).await;
    let http = server.http();
    for status in ["ACTIVE", "active", "Deleted", "aLL"] {
        assert_eq!(http.get(&format!("/v1/sessions?status={status}")).await.0, 200, "{status}");
    }
    for status in ["", "odd", "ACTIVE,DELETED"] {
        let (refused, body) = http.get(&format!("/v1/sessions?status={status}")).await;
        assert_eq!((refused, &body["code"]), (400, &json!("invalid_query")), "{status}");
    }
}

#[tokio::test]
async fn active_runs_are_listed() {
    let call = Step::Call(vec![("a", "stakpak__act", json!({}))]);
    let server = TestServer::start([call, Step::Silence, Step::Say("done"), Step::Say("over")]).await;
    let http = server.http();
    assert_eq!(http.get("/v1/runs?state=active").await.1, json!({"runs": [], "total": 0}));
    let mut waiting = server.run("wait", json!("none")).await;
    waiting.until("waiting_for_tool_approval").await;
    let mut asking = server.run("ask", json!("none")).await;
    asking.until("turn_started").await;
    server.run("end", json!("none")).await.finish().await;

    let (status, active) = http.get("/v1/runs?state=active").await;
    assert_eq!((status, &active["total"]), (200, &json!(2)));
    let states: Vec<_> = active["runs"].as_array().unwrap().iter().map(|run| (&run["run_id"], &run["state"])).collect();
    let (first, second) = (json!(waiting.run), json!(asking.run));
    assert_eq!(states, [(&first, &json!("waiting_approval")), (&second, &json!("running"))]);
    let one = http.get(&format!("/v1/sessions/{}/runs/{}", waiting.session, waiting.run)).await.1;
    assert_eq!(active["runs"][0], one, "as its own route tells it");
    let page = http.get("/v1/runs?limit=1&offset=1").await.1;
    assert_eq!((&page["runs"][0]["run_id"], &page["total"]), (&second, &json!(2)));

    asking.cancel().await;
    waiting.decide("a", "accept").await;
    waiting.finish().await;
    assert_eq!(http.get("/v1/runs").await.1, json!({"runs": [], "total": 0}));
    let (status, body) = http.get("/v1/runs?state=ended").await;
    assert_eq!((status, &body["code"]), (400, &json!("invalid_query")));
}
