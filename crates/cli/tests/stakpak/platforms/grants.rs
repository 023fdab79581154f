//! What runs in a chat without a question: the profile's grant, and the gateway's policy below it.

use serde_json::{Value, json};
use stakpak_test_support::Reply;

use super::{Chat, Platform, Stage};
use crate::support::Up;

async fn stage(gateway: &str, profile: &str) -> Stage {
    let stage = Stage::with(&format!("[gateway]\n{gateway}\n"), async |base_url| base_url).await;
    let file = stage.path(".stakpak/config.toml");
    let config = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, config.replace("[profiles.default]\n", &format!("[profiles.default]\n{profile}\n"))).unwrap();
    stage
}

fn command(line: &str) -> (&'static str, Value) {
    ("stakpak__run_command", json!({ "command": line }))
}

impl Chat<'_> {
    /// It runs, and nobody is asked.
    fn runs(&self, (tool, arguments): (&str, Value), then: &str) {
        let before = self.prompts();
        self.stage.llm.push(Reply::tool_call("call", tool, &arguments));
        self.stage.llm.push(Reply::text([then]));
        self.say("please do it");
        self.hears(then);
        assert_eq!(self.prompts(), before, "{arguments}");
    }

    /// A person is asked, and denies.
    async fn is_asked(&self, up: &Up, (tool, arguments): (&str, Value), then: &str) {
        self.stage.llm.push(Reply::tool_call("call", tool, &arguments));
        self.stage.llm.push(Reply::text([then]));
        self.say("please do it");
        let prompt = self.prompt(up).await;
        self.press(super::Person::Ann, &prompt, "Deny");
        self.hears(then);
        self.outcome(&prompt);
    }

    fn prompts(&self) -> usize {
        self.shown().iter().filter(|shown| shown.text.contains("Approval needed") || !shown.buttons.is_empty()).count()
    }
}

/// G-P26, section 7: a scope of the list means what it means to the server, which decides: the whole line counts, and so does
/// whose tool it is (G-P37).
#[tokio::test(flavor = "multi_thread")]
async fn a_scope_of_the_allowlist_runs_and_the_rest_is_asked() {
    let stage = stage("approval_mode = \"allowlist\"\napproval_allowlist = [\"run_command::touch\"]", "").await;
    let up = stage.up().await;
    let chat = stage.direct(Platform::Telegram);
    let path = |name: &str| stage.path(name).display().to_string();
    chat.runs(command(&format!("touch {}", path("a"))), "the first is done");
    assert!(stage.path("a").exists());
    chat.is_asked(&up, command(&format!("touch {} && mkdir {}", path("b"), path("c"))), "the second is not").await;
    chat.is_asked(&up, command(&format!("touch $(mkdir {} && echo x)", path("d"))), "nor the third").await;
    let file = json!({"path": path("a")});
    chat.is_asked(&up, ("stakpak__view", file), "what is not listed is asked about").await;
    assert!(!["b", "c", "d"].iter().any(|name| stage.path(name).exists()));
}

/// G-P26: what a profile names applies to chats, and the gateway's policy widens none of it.
#[tokio::test(flavor = "multi_thread")]
async fn allowed_tools_of_a_profile_hold_in_a_chat_that_allows_all() {
    let stage = stage("approval_mode = \"allow_all\"", "allowed_tools = [\"run_command::touch\"]").await;
    let up = stage.up().await;
    let chat = stage.direct(Platform::Telegram);
    let path = |name: &str| stage.path(name).display().to_string();
    chat.runs(command(&format!("touch {}", path("a"))), "the first is done");
    chat.is_asked(&up, command(&format!("mkdir {}", path("b"))), "the second is not").await;
    assert!(stage.path("a").exists() && !stage.path("b").exists());
}

/// An explicit policy of the file counts where it is the stricter one.
#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_the_gateway_makes_a_generous_profile_stricter() {
    let gateway =
        "approval_mode = \"allowlist\"\napproval_allowlist = [\"run_command::touch\", \"run_command::mkdir\"]";
    let stage = stage(gateway, "auto_approve = [\"create\", \"run_command::touch\"]").await;
    let up = stage.up().await;
    let chat = stage.direct(Platform::Telegram);
    let path = |name: &str| stage.path(name).display().to_string();
    chat.runs(command(&format!("touch {}", path("a"))), "both approve the first");
    chat.is_asked(&up, command(&format!("mkdir {}", path("b"))), "only the gateway the second").await;
    let create = json!({"path": path("c"), "file_text": "x"});
    chat.is_asked(&up, ("stakpak__create", create), "only the profile the third").await;
    assert!(stage.path("a").exists() && !stage.path("b").exists() && !stage.path("c").exists());
}

/// G-P11: whatever the profile lets run, `deny_all` rejects it, and nobody is asked.
#[tokio::test(flavor = "multi_thread")]
async fn deny_all_rejects_what_the_profile_lets_run() {
    let stage = stage("approval_mode = \"deny_all\"", "auto_approve = [\"run_command\"]").await;
    let _up = stage.up().await;
    let chat = stage.direct(Platform::Telegram);
    chat.runs(command(&format!("touch {}", stage.path("a").display())), "then not");
    assert!(!stage.path("a").exists());
    let told = stage.llm.requests().pop().unwrap().body["messages"].clone();
    assert!(told.to_string().contains("deny_all"), "{told:#}");
}
