//! A secret of every kind, wherever it stands; and what only looks like one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::{borrow::Cow, collections::BTreeSet};

use stakpak_redact::{CustomRule, REDACTED, Redactor, RuleError, Vaults, placeholders};

const MIXED: &str =
    "aB3dE5gH7jK9mN1pQ2rS4tU6vW8xY0zA2cD4fG6hJ8kL0mN2pQ4rS6tU8vW0xY2zA4bC6dE8fG0hJ2kL4mN6pQ8rS0tU2vW4xY6zA8";
const HEX: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0";
const UPPER: &str = "ABCDEFGHIJ234567KLMNOPQRSTUVWXYZ23456789ABCDEFGHIJ234567KLMNOPQRSTUVWXYZ";

/// Rule, what stands before the secret, the secret, what stands behind it. Put together here so that no scanner takes this
/// file for a leak.
#[allow(clippy::too_many_lines, reason = "data")]
fn corpus() -> Vec<(&'static str, &'static str, String, &'static str)> {
    let mixed = |length: usize| MIXED.chars().cycle().take(length).collect::<String>();
    let hex = |length: usize| &HEX[..length];
    let upper = |length: usize| &UPPER[..length];
    let token = |rule, secret: String| (rule, "", secret, "");
    vec![
        token("aws-access-key-id", format!("AK{}{}", "IA", upper(16))),
        token("aws-temporary-key-id", format!("AS{}{}", "IA", upper(16))),
        token("aws-bearer-token-id", format!("AB{}{}", "IA", upper(16))),
        token("aws-bedrock-key", format!("AB{}{}", "SK", mixed(110))),
        ("aws-secret-key", "aws_secret_access_key = ", mixed(40), "\n"),
        ("aws-secret-key", "\"SecretAccessKey\": \"", mixed(40), "\""),
        ("aws-session-token", "aws_session_token=", mixed(180), "\n"),
        token("google-api-key", format!("AI{}{}", "za", mixed(35))),
        token("google-oauth-token", format!("ya{}{}", "29.", mixed(60))),
        token("google-client-secret", format!("GO{}{}", "CSPX-", mixed(28))),
        token("google-refresh-token", format!("1/{}{}", "/0", mixed(40))),
        ("azure-storage-key", "AccountName=x;AccountKey=", format!("{}==", mixed(86)), ";EndpointSuffix=y"),
        ("azure-sas-signature", "?sv=2024&sig=", format!("{}%3D", mixed(43)), "&se=1"),
        token("azure-client-secret", format!("aB3{}{}", "8Q~", mixed(34))),
        token("digitalocean-token", format!("do{}{}", "p_v1_", hex(64))),
        token("alibaba-access-key", format!("LT{}{}", "AI", mixed(20))),
        token("tencent-secret-id", format!("AK{}{}", "ID", mixed(32))),
        token("fly-token", format!("Fly{}{}", "V1 fm2_", mixed(60))),
        token("heroku-key", format!("HR{}{}", "KU-", mixed(40))),
        token("netlify-token", format!("nf{}{}", "p_", mixed(40))),
        token("cloudflare-ca-key", format!("v1{}{}-{}", ".0-", hex(24), hex(146))),
        token("planetscale-token", format!("psc{}{}", "ale_pw_", mixed(40))),
        token("supabase-token", format!("sb{}{}", "p_", hex(40))),
        token("databricks-token", format!("da{}{}", "pi", hex(32))),
        token("snowflake-token", format!("ver{}{}", ":1-hint:", mixed(60))),
        token("anthropic-key", format!("sk{}{}", "-ant-api03-", mixed(90))),
        token("openrouter-key", format!("sk{}{}", "-or-v1-", hex(64))),
        token("openai-key", format!("sk{}{}_-x", "-proj-", mixed(40))),
        token("huggingface-token", format!("h{}{}", "f_", mixed(34))),
        token("groq-key", format!("gs{}{}", "k_", mixed(52))),
        token("replicate-token", format!("r{}{}", "8_", mixed(37))),
        token("perplexity-key", format!("pp{}{}", "lx-", mixed(48))),
        token("xai-key", format!("xa{}{}", "i-", mixed(80))),
        token("fireworks-key", format!("f{}{}", "w_", mixed(24))),
        token("nvidia-key", format!("nv{}{}", "api-", mixed(64))),
        token("langsmith-key", format!("ls{}{}_{}", "v2_pt_", hex(32), hex(10))),
        token("tavily-key", format!("tv{}{}", "ly-", mixed(32))),
        token("github-token", format!("gh{}{}", "p_", mixed(36))),
        token("github-token", format!("gh{}{}", "s_", mixed(36))),
        token("github-fine-grained-token", format!("github{}{}", "_pat_", mixed(82))),
        token("gitlab-token", format!("gl{}{}", "pat-", mixed(20))),
        token("bitbucket-token", format!("AT{}{}", "BB", mixed(32))),
        token("atlassian-token", format!("AT{}{}", "ATT3xFfGF0", mixed(180))),
        token("npm-token", format!("np{}{}", "m_", mixed(36))),
        token("pypi-token", format!("py{}{}", "pi-AgEIcHlwaS5vcmc", mixed(100))),
        token("rubygems-key", format!("ruby{}{}", "gems_", hex(48))),
        token("crates-io-token", format!("c{}{}", "io", mixed(32))),
        token("nuget-key", format!("o{}{}", "y2", "a1b2c3d4e5f6g7h8i9j0k1l2m3n4o5p6q7r8s9t0u1v")),
        token("docker-token", format!("dc{}{}", "kr_pat_", mixed(27))),
        token("artifactory-key", format!("AK{}{}", "Cp", mixed(69))),
        token("postman-key", format!("PM{}{}-{}", "AK-", hex(24), hex(34))),
        token("sentry-token", format!("sn{}{}", "trys_", mixed(80))),
        token("sourcegraph-token", format!("sg{}{}", "p_", hex(40))),
        token("stripe-key", format!("sk{}{}", "_test_", mixed(24))),
        token("stripe-key", format!("rk{}{}", "_live_", mixed(24))),
        token("stripe-webhook-secret", format!("wh{}{}", "sec_", mixed(32))),
        token("square-token", format!("sq{}{}", "0atp-", mixed(22))),
        token("shopify-token", format!("sh{}{}", "pat_", hex(32))),
        token("flutterwave-key", format!("FLW{}{}-X", "SECK_TEST-", hex(32))),
        token("razorpay-key", format!("rz{}{}", "p_live_", mixed(14))),
        token("slack-token", format!("xo{}-12345678-{}", "xb", mixed(24))),
        token("slack-config-token", format!("xo{}-1-{}", "xe.xoxp", mixed(60))),
        token("slack-app-token", format!("xa{}{}", "pp-1-A0-", mixed(40))),
        ("slack-webhook", "https://hooks.slack.com/services/", format!("T0000/B0000/{}", mixed(24)), " "),
        token("telegram-bot-token", format!("123456789:{}", mixed(35))),
        token("discord-bot-token", format!("MT{}.{}.{}", mixed(24), mixed(6), mixed(38))),
        ("discord-webhook", "https://discord.com/api/webhooks/123456789012345678/", mixed(68), " "),
        (
            "teams-webhook",
            "https://x.webhook.office.com/webhookb2/a@b/IncomingWebhook/",
            format!("{}/{}-0f1e-0f1e-0f1e-{}", hex(32), hex(8), hex(12)),
            " ",
        ),
        token("sendgrid-key", format!("S{}{}.{}", "G.", mixed(22), mixed(43))),
        token("twilio-key", format!("S{}{}", "K", hex(32))),
        ("twilio-auth-token", "Twilio auth token is ", hex(32).to_owned(), " "),
        token("mailgun-key", format!("ke{}{}", "y-", hex(32))),
        token("mailchimp-key", format!("{}-us21", hex(32))),
        token("brevo-key", format!("xkey{}{}-{}", "sib-", hex(64), mixed(16))),
        token("resend-key", format!("r{}{}_{}", "e_", mixed(8), mixed(24))),
        token("vault-token", format!("hv{}{}", "s.", mixed(24))),
        token("terraform-token", format!("{}.at{}.{}", mixed(14), "lasv1", mixed(67))),
        token("pulumi-token", format!("pu{}{}", "l-", hex(40))),
        token("doppler-token", format!("dp{}{}", ".pt.", mixed(43))),
        token("onepassword-token", format!("op{}{}", "s_eyJ", mixed(200))),
        token("age-key", format!("AGE-SEC{}1{}", "RET-KEY-", upper(58))),
        token("grafana-token", format!("gl{}{}", "sa_", mixed(41))),
        token("new-relic-key", format!("NR{}{}", "AK-", upper(27))),
        ("datadog-key", "DD_API_KEY=", hex(32).to_owned(), " "),
        token("dynatrace-token", format!("dt{}.{}.{}", "0c01", upper(24), upper(64))),
        token("pagerduty-key", format!("u{}{}", "+", mixed(18))),
        token("linear-key", format!("li{}{}", "n_api_", mixed(40))),
        token("notion-token", format!("nt{}{}", "n_", mixed(46))),
        token("figma-token", format!("fi{}{}", "gd_", mixed(40))),
        token("airtable-token", format!("pa{}{}.{}", "t", mixed(14), hex(64))),
        token("tailscale-key", format!("ts{}{}", "key-auth-", mixed(30))),
        token("stakpak-key", format!("st{}{}", "kpk_api", mixed(40))),
        token("private-key", format!("-----BEGIN RSA {0}-----\nMIIE+/=\nab\n-----END RSA {0}-----", "PRIVATE KEY")),
        token("private-key", format!("-----BEGIN {0}-----\\nMIIE+/=\\nab\\n-----END {0}-----", "PRIVATE KEY")),
        token("encoded-private-key", "LS0tLS1CRUdJTiBSU0EgUFJJVkFURSBLRVktLS0tLQpNSUlFb3dJQkFBS0NBUUVB".to_owned()),
        token("jwt", format!("ey{}.ey{}.{}", "JhbGciOiJIUzI1NiJ9", "JzdWIiOiIxMjM0NTY3ODkwIn0", mixed(43))),
        ("url-password", "postgres://admin:", "p4ss!word".to_owned(), "@db.internal:5432/app"),
        ("url-password", "redis://:", "short".to_owned(), "@cache:6379"),
        ("url-token", "https://", mixed(32), "@git.example/x.git"),
        ("basic-credentials", "Authorization: Basic ", "dXNlcjpodW50ZXIyLWFuZC1tb3Jl".to_owned(), "\r\n"),
        ("bearer-token", "authorization: Bearer ", mixed(30), "\r\n"),
        ("curl-password", "curl -s -u admin:", "hunter2!".to_owned(), " https://x"),
        ("mysql-password", "mysql -h db -u root -p", "tr0ub4dor&3".to_owned(), " app"),
        ("password", "DB_PASSWORD=", "Tr0ub4dor&3xyz".replace('&', "%"), "\n"),
        ("password", "password: ", "correct-horse-battery".to_owned(), "\n"),
        ("password", "\"password\": \"", "(s3cr3t)[ü]{x}".to_owned(), "\","),
        ("generic-secret", "client_secret=", "8f7a-6b5c-4d3e-2f1a".to_owned(), "&x=1"),
        ("generic-secret", "MY_API_KEY: '", "a8f5f167f44f4964e6c998dee827110c".to_owned(), "'"),
    ]
}

fn vaults(directory: &tempfile::TempDir) -> Vaults {
    let path = directory.path();
    Vaults::new(path.join("secrets"), path.join("key"), Redactor::default())
}

#[test]
fn a_secret_of_every_kind_is_hidden_and_named_by_its_rule() {
    let directory = tempfile::tempdir().unwrap();
    let vaults = vaults(&directory);
    for (number, (rule, before, secret, after)) in corpus().into_iter().enumerate() {
        let (session, text) = (number.to_string(), format!("{before}{secret}{after}"));
        assert_eq!(Redactor::default().redact(&text), format!("{before}{REDACTED}{after}"), "{rule}");
        let hidden = vaults.hide(&session, &text).into_owned();
        let names: Vec<_> = placeholders(&hidden).map(|found| found.rule.to_owned()).collect();
        assert_eq!(names, [rule], "{hidden}");
        assert_eq!(vaults.restore(&session, &hidden, stakpak_redact::Grant::All).unwrap(), text, "{rule}");
    }
    let rules: BTreeSet<_> = corpus().into_iter().map(|(rule, ..)| rule).collect();
    assert!(rules.len() >= 90, "{}", rules.len());
}

#[test]
fn it_is_hidden_wherever_it_stands() {
    for (rule, before, secret, after) in corpus() {
        for (left, right) in
            [("", " end"), ("x = ", "\n"), ("{\"k\":\"", "\"}"), ("ü ", " ß"), ("a\\n", "\\nb"), ("x%20", "%20")]
        {
            let text = format!("{left}{before}{secret}{after}{right}");
            let hidden = Redactor::default().redact(&text).into_owned();
            assert!(!hidden.contains(&secret[..secret.len() - 1]), "{rule}: {text}");
        }
    }
}

/// C-P54: what stands around a secret never excuses it.
#[test]
fn a_test_key_beside_demo_is_hidden() {
    let key = format!("sk{}{}", "_test_", &MIXED[..24]);
    let text = format!("demo example: {key} (only a demo)");
    assert_eq!(Redactor::default().redact(&text), format!("demo example: {REDACTED} (only a demo)"));
}

/// C-P55: digests and ids are no secrets, also beside words of secrets; and what is released stays.
#[test]
fn what_only_looks_like_a_secret_stays() {
    for text in [
        "commit da39a3ee5e6b4b0d3255bfef95601890afd80709",
        "rotate the secret access key: da39a3ee5e6b4b0d3255bfef95601890afd80709",
        "the secret access key of commit da39a3ee5e6b4b0d3255bfef95601890afd80709 is gone",
        "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "digest: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "12345678:da39a3ee5e6b4b0d3255bfef95601890afd80709",
        "request 8c1f9c1e-4f5e-4a4e-9b1e-0a7d4a1b2c3d took 12:34:56.789",
        "password: $DB_PASSWORD",
        "password = \"${var.db_password_2024}\"",
        "token: {{ .Values.token1234 }}",
        "const password = form.passwordInput.value;",
        "let token = next_token(stream);",
        "secret: /run/secrets/db_password_1",
        "TOKEN=$(cat /run/token1)",
        "PWD=/home/deploy/app-2024",
        "SUDO_ASKPASS=/usr/bin/askpass1",
        "passwordless authentication with tokens 1234567890",
        "https://user@example.org:8080/path?x=a:b",
        "ssh://git@github.com:22/a/b.git",
        "arn:aws:iam::123456789012:role/deploy",
        "task-risk-assessment-of-something-with-a-long-name",
        "key-value and disk-usage and mask-0123",
    ] {
        assert!(matches!(Redactor::default().redact(text), Cow::Borrowed(_)), "{}", Redactor::default().redact(text));
    }
}

#[test]
fn what_is_released_stays_and_what_is_known_does_not() {
    use sha2::{Digest, Sha256};
    let digest = |text: &str| -> [u8; 32] { Sha256::digest(text).into() };
    let redactor = Redactor::new(["hunter2-hunter2"]).unwrap();
    let redactor = redactor.ignoring([digest("Tr0ub4dor-3xyz"), digest("hunter2-hunter2")]);
    let text = "password=Tr0ub4dor-3xyz password=Tr0ub4dor-3xyZ hunter2-hunter2";
    assert_eq!(redactor.redact(text), "password=Tr0ub4dor-3xyz password=[REDACTED] [REDACTED]");
}

#[test]
fn rules_of_the_configuration_are_searched_too() {
    let rule = |id: &str, keywords: &[&str], regex: &str| CustomRule {
        id: id.to_owned(),
        keywords: keywords.iter().map(|word| (*word).to_owned()).collect(),
        regex: regex.to_owned(),
    };
    let rules = [rule("badge", &["badge"], r"(?i)badge (?<secret>[0-9]{6})"), rule("pin", &["PIN-"], r"PIN-[0-9]+")];
    let redactor = Redactor::default().with_rules(&rules).unwrap();
    assert_eq!(redactor.redact("Badge 123456, pin-1, PIN-99"), "Badge [REDACTED], pin-1, [REDACTED]");
    let refused = |rule| Redactor::default().with_rules(&[rule]).unwrap_err();
    assert!(matches!(refused(rule("Bad Id", &["xy"], "x")), RuleError::Id(_)));
    assert!(matches!(refused(rule("ok", &[], "x")), RuleError::Keywords(_)));
    assert!(matches!(refused(rule("ok", &["xy"], "(")), RuleError::Regex { .. }));
}
