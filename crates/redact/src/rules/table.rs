//! The rules of the product, as data: written for it, none taken from elsewhere.
//!
//! A token begins a word, or follows an escape such as the `\n` of a JSON string or the `%3D` of a URL; it ends where a word
//! ends, so that taking it away begins no new one. Expressions work on bytes, without Unicode classes; what is hidden is the
//! group `secret`. Of two rules with the same finding the first one names it.

use super::check::{self, Check};

/// One rule, as data.
pub(super) struct Spec {
    pub(super) id: &'static str,
    /// In any case; the expression is tried around them only.
    pub(super) keywords: &'static [&'static str],
    pub(super) expression: &'static str,
    /// Bits a character that a finding has at least.
    pub(super) entropy: f64,
    /// Whether a keyword that was found is worth a look, and whether what was found is a secret.
    pub(super) check: Check,
    /// Reaches over lines.
    pub(super) is_block: bool,
}

const PLAIN: Spec = Spec { id: "", keywords: &[], expression: "", entropy: 0.0, check: Check::None, is_block: false };

/// A token with a beginning of its own.
macro_rules! token {
    ($id:literal, [$($keyword:literal),+], $expression:literal) => {
        Spec {
            id: $id,
            keywords: &[$($keyword),+],
            expression: concat!(r"(?:\b|\\[bfnrt]|%[0-9A-Fa-f]{2})(?<secret>", $expression, ")"),
            check: Check::Hit(check::begins_a_word),
            ..PLAIN
        }
    };
}

/// A value that is known by what stands before it.
macro_rules! context {
    ($id:literal, [$($keyword:literal),+], $entropy:literal, $expression:literal) => {
        Spec { id: $id, keywords: &[$($keyword),+], expression: $expression, entropy: $entropy, check: Check::Value, ..PLAIN }
    };
}

pub(super) static SPECS: &[Spec] = &[
    // Clouds.
    token!("aws-access-key-id", ["AKIA"], r"AKIA[0-9A-Z]{16}\b"),
    token!("aws-temporary-key-id", ["ASIA"], r"ASIA[0-9A-Z]{16}\b"),
    token!("aws-bearer-token-id", ["ABIA"], r"ABIA[0-9A-Z]{16}\b"),
    token!("aws-bedrock-key", ["ABSK"], r"ABSK[A-Za-z0-9+/]{100,}={0,2}"),
    Spec {
        check: Check::NoHex,
        ..context!(
            "aws-secret-key",
            [
                "secret_access_key",
                "secretaccesskey",
                "secret-access-key",
                "secret access key",
                "aws_secret",
                "aws-secret"
            ],
            3.5,
            r#"(?i:secret[_ -]?(?:access[_ -]?)?key)[^\nA-Za-z0-9+/]{1,12}(?<secret>[A-Za-z0-9+/]{40})(?:[^A-Za-z0-9+/=]|\z)"#
        )
    },
    context!(
        "aws-session-token",
        ["session_token", "sessiontoken", "security_token", "x-amz-security-token"],
        3.5,
        r#"(?i:session_?token|security[_-]token)[^\nA-Za-z0-9+/]{1,12}(?<secret>[A-Za-z0-9+/=]{100,})"#
    ),
    token!("google-api-key", ["AIza"], r"AIza[0-9A-Za-z_-]{35}"),
    token!("google-oauth-token", ["ya29."], r"ya29\.[0-9A-Za-z_-]{20,}"),
    token!("google-client-secret", ["GOCSPX-"], r"GOCSPX-[0-9A-Za-z_-]{28}"),
    token!("google-refresh-token", ["1//0"], r"1//0[0-9A-Za-z_-]{30,}"),
    context!(
        "azure-storage-key",
        ["accountkey", "sharedaccesskey"],
        3.5,
        r"(?i:accountkey|sharedaccesskey)=(?<secret>[A-Za-z0-9+/]{40,}={0,2})"
    ),
    context!("azure-sas-signature", ["sig="], 3.0, r"\bsig=(?<secret>[A-Za-z0-9%+/]{40,}(?:=|%3[Dd])?)"),
    Spec {
        check: Check::None,
        ..token!("azure-client-secret", ["Q~"], r"[A-Za-z0-9_~.-]{3}[0-9]Q~[A-Za-z0-9_~.-]{31,34}")
    },
    token!("digitalocean-token", ["dop_v1_", "doo_v1_", "dor_v1_"], r"do[opr]_v1_[a-f0-9]{64}"),
    token!("alibaba-access-key", ["LTAI"], r"LTAI[A-Za-z0-9]{17,24}\b"),
    token!("tencent-secret-id", ["AKID"], r"AKID[A-Za-z0-9]{32}\b"),
    token!("fly-token", ["FlyV1"], r"FlyV1 [A-Za-z0-9+/=_,-]{40,}"),
    token!("heroku-key", ["HRKU-"], r"HRKU-[A-Za-z0-9_-]{30,}"),
    token!("netlify-token", ["nfp_"], r"nfp_[A-Za-z0-9]{36,}"),
    token!("cloudflare-ca-key", ["v1.0-"], r"v1\.0-[a-f0-9]{24}-[a-f0-9]{146}"),
    token!("planetscale-token", ["pscale_"], r"pscale_(?:tkn|pw|oauth)_[A-Za-z0-9_.=-]{32,}"),
    token!("supabase-token", ["sbp_"], r"sbp_[a-f0-9]{40}"),
    token!("databricks-token", ["dapi"], r"dapi[a-f0-9]{32}(?:-[0-9])?"),
    token!("snowflake-token", ["ver:1-hint:"], r"ver:1-hint:[A-Za-z0-9:+/=_-]{40,}"),
    // Models.
    token!("anthropic-key", ["sk-ant-"], r"sk-ant-[A-Za-z0-9_-]{20,}"),
    token!("openrouter-key", ["sk-or-"], r"sk-or-[A-Za-z0-9_-]{20,}"),
    token!("openai-key", ["sk-"], r"sk-[A-Za-z0-9_-]{20,}"),
    token!("huggingface-token", ["hf_"], r"hf_[A-Za-z0-9]{30,}"),
    token!("groq-key", ["gsk_"], r"gsk_[A-Za-z0-9]{40,}"),
    token!("replicate-token", ["r8_"], r"r8_[A-Za-z0-9]{37,}"),
    token!("perplexity-key", ["pplx-"], r"pplx-[A-Za-z0-9]{40,}"),
    token!("xai-key", ["xai-"], r"xai-[A-Za-z0-9]{40,}"),
    token!("fireworks-key", ["fw_"], r"fw_[A-Za-z0-9]{22,}"),
    token!("nvidia-key", ["nvapi-"], r"nvapi-[A-Za-z0-9_-]{40,}"),
    token!("langsmith-key", ["lsv2_"], r"lsv2_(?:pt|sk)_[a-f0-9]{32}_[a-f0-9]{10}"),
    token!("tavily-key", ["tvly-"], r"tvly-[A-Za-z0-9-]{20,}"),
    // Code and packages.
    token!("github-token", ["ghp_", "gho_", "ghu_", "ghs_", "ghr_"], r"gh[pousr]_[A-Za-z0-9_]{36,}"),
    token!("github-fine-grained-token", ["github_pat_"], r"github_pat_[A-Za-z0-9_]{22,}"),
    token!(
        "gitlab-token",
        ["glpat-", "gldt-", "glrt-", "glcbt-", "glptt-", "glft-", "glsoat-", "glagent-", "gloas-", "glimt-", "glrtr-"],
        r"gl(?:pat|dt|rt|cbt|ptt|ft|soat|agent|oas|imt|rtr)-[A-Za-z0-9_.-]{20,}"
    ),
    token!("bitbucket-token", ["ATBB"], r"ATBB[A-Za-z0-9]{24,}"),
    token!("atlassian-token", ["ATATT3"], r"ATATT3[A-Za-z0-9_=-]{60,}"),
    token!("npm-token", ["npm_"], r"npm_[A-Za-z0-9]{36,}"),
    token!("pypi-token", ["pypi-"], r"pypi-[A-Za-z0-9_-]{50,}"),
    token!("rubygems-key", ["rubygems_"], r"rubygems_[a-f0-9]{48}"),
    token!("crates-io-token", ["cio"], r"cio[A-Za-z0-9]{32}\b"),
    token!("nuget-key", ["oy2"], r"oy2[a-z0-9]{43}\b"),
    token!("docker-token", ["dckr_"], r"dckr_(?:pat|oat)_[A-Za-z0-9_-]{20,}"),
    token!("artifactory-key", ["AKCp"], r"AKCp[A-Za-z0-9]{60,}"),
    token!("postman-key", ["PMAK-"], r"PMAK-[a-f0-9]{24}-[a-f0-9]{34}"),
    token!("sentry-token", ["sntry"], r"sntry[su]_[A-Za-z0-9+/=_-]{40,}"),
    token!("sourcegraph-token", ["sgp_"], r"sgp_[A-Za-z0-9_]{40,}"),
    // Money.
    token!(
        "stripe-key",
        ["sk_live_", "sk_test_", "sk_prod_", "rk_live_", "rk_test_", "rk_prod_"],
        r"[sr]k_(?:live|test|prod)_[A-Za-z0-9]{10,}"
    ),
    token!("stripe-webhook-secret", ["whsec_"], r"whsec_[A-Za-z0-9+/=]{24,}"),
    token!("square-token", ["sq0"], r"sq0(?:atp|csp|idp)-[A-Za-z0-9_-]{22,}"),
    token!("shopify-token", ["shpat_", "shpca_", "shppa_", "shpss_"], r"shp(?:at|ca|pa|ss)_[A-Fa-f0-9]{32}"),
    token!("flutterwave-key", ["FLWSECK"], r"FLWSECK(?:_TEST)?-[A-Za-z0-9]{12,}(?:-X)?"),
    token!("razorpay-key", ["rzp_"], r"rzp_(?:live|test)_[A-Za-z0-9]{14,}"),
    // Chats and messages.
    token!("slack-token", ["xox"], r"xox[abeoprs]-[A-Za-z0-9_-]{10,}"),
    token!("slack-config-token", ["xoxe"], r"xoxe\.xox[bp]-[A-Za-z0-9_-]{10,}"),
    token!("slack-app-token", ["xapp-"], r"xapp-[A-Za-z0-9_-]{10,}"),
    Spec {
        id: "slack-webhook",
        keywords: &["hooks.slack.com"],
        expression: r"hooks\.slack\.com/(?:services|workflows|triggers)/(?<secret>[A-Za-z0-9_/-]{20,})",
        ..PLAIN
    },
    // Exactly 35, as the Bot API makes them: longer ones are digests behind a number. `bot` stands right before
    // it in the URLs of the API.
    Spec {
        id: "telegram-bot-token",
        keywords: &[":"],
        expression: r"(?<secret>[0-9]{8,10}:[A-Za-z0-9_-]{35})(?:[^A-Za-z0-9_-]|\z)",
        check: Check::Hit(check::is_between_number_and_token),
        ..PLAIN
    },
    Spec {
        id: "discord-bot-token",
        keywords: &["."],
        expression: r"(?:\b|\\[bfnrt]|%[0-9A-Fa-f]{2})(?<secret>[MNO][A-Za-z0-9_-]{23,27}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,40})(?:[^A-Za-z0-9_-]|\z)",
        check: Check::Hit(check::is_before_six_and_a_dot),
        ..PLAIN
    },
    Spec {
        id: "discord-webhook",
        keywords: &["/api/webhooks/"],
        expression: r"/api/webhooks/[0-9]{15,22}/(?<secret>[A-Za-z0-9_-]{50,})",
        ..PLAIN
    },
    Spec {
        id: "teams-webhook",
        keywords: &["webhook.office.com", "/IncomingWebhook/"],
        expression: r"/IncomingWebhook/(?<secret>[a-f0-9]{32}/[A-Fa-f0-9-]{36})",
        ..PLAIN
    },
    token!("sendgrid-key", ["SG."], r"SG\.[A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{32,64}"),
    Spec { check: Check::Hit(check::is_before_hex), ..token!("twilio-key", ["SK"], r"SK[a-f0-9]{32}\b") },
    context!("twilio-auth-token", ["twilio"], 3.0, r"(?i:twilio)[^\n]{0,40}?(?:\b|[=:])(?<secret>[a-f0-9]{32})\b"),
    token!("mailgun-key", ["key-"], r"key-[a-f0-9]{32}\b"),
    Spec { check: Check::None, ..token!("mailchimp-key", ["-us"], r"[a-f0-9]{32}-us[0-9]{1,2}\b") },
    token!("brevo-key", ["xkeysib-"], r"xkeysib-[a-f0-9]{64}-[A-Za-z0-9]{16}"),
    token!("resend-key", ["re_"], r"re_[A-Za-z0-9]{8,}_[A-Za-z0-9]{20,}"),
    // Operations.
    token!("vault-token", ["hvs.", "hvb.", "hvr."], r"hv[sbr]\.[A-Za-z0-9_-]{24,}"),
    Spec {
        check: Check::None,
        ..token!("terraform-token", [".atlasv1."], r"[A-Za-z0-9]{14}\.atlasv1\.[A-Za-z0-9_=-]{60,}")
    },
    token!("pulumi-token", ["pul-"], r"pul-[a-f0-9]{40}"),
    token!(
        "doppler-token",
        ["dp.pt.", "dp.st.", "dp.ct.", "dp.sa.", "dp.scim.", "dp.audit."],
        r"dp\.(?:pt|st|ct|sa|scim|audit)\.[A-Za-z0-9._-]{40,}"
    ),
    token!("onepassword-token", ["ops_"], r"ops_eyJ[A-Za-z0-9_=-]{80,}"),
    token!("age-key", ["AGE-SECRET-KEY-"], r"AGE-SECRET-KEY-(?:PQ-)?1[0-9A-Z]{50,}"),
    token!("grafana-token", ["glc_", "glsa_"], r"gl(?:c|sa)_[A-Za-z0-9+/=_]{32,}"),
    token!("new-relic-key", ["NRAK-"], r"NRAK-[A-Z0-9]{27}"),
    context!(
        "datadog-key",
        ["dd_api_key", "dd_app_key", "dd-api-key", "dd-application-key"],
        3.0,
        r#"(?i:dd[_-](?:api|app|application)[_-]key)["'\\]{0,2}\s{0,3}[:=]\s{0,3}["'\\]{0,2}(?<secret>[A-Fa-f0-9]{32,40})\b"#
    ),
    token!("dynatrace-token", ["dt0"], r"dt0[a-z][0-9]{2}\.[A-Z0-9]{24}\.[A-Z0-9]{64}"),
    token!("pagerduty-key", ["u+"], r"u\+[A-Za-z0-9_-]{18}\b"),
    token!("linear-key", ["lin_"], r"lin_(?:api|oauth)_[A-Za-z0-9]{32,}"),
    token!("notion-token", ["ntn_"], r"ntn_[A-Za-z0-9]{40,}"),
    token!("figma-token", ["figd_"], r"figd_[A-Za-z0-9_-]{40,}"),
    token!("airtable-token", ["pat"], r"pat[A-Za-z0-9]{14}\.[a-f0-9]{64}"),
    token!("tailscale-key", ["tskey-"], r"tskey-[a-z]+-[A-Za-z0-9-]{20,}"),
    token!("stakpak-key", ["stkpk_"], r"stkpk_[A-Za-z0-9_-]{20,}"),
    // Shapes of everybody.
    // A block that was cut off hides all that follows: no part of a key may stay.
    Spec {
        id: "private-key",
        keywords: &["PRIVATE KEY"],
        expression: r"(?s)(?<secret>-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|\z))",
        is_block: true,
        ..PLAIN
    },
    // The beginning of such a block in base64, as in a kubeconfig.
    token!(
        "encoded-private-key",
        ["LS0tLS1CRUdJTi"],
        r"LS0tLS1CRUdJTi[A-Za-z0-9+/_-]{0,60}(?:UFJJVkFURSBLRV|BSSVZBVEUgS0VZ|QUklWQVRFIEtFW)[A-Za-z0-9+/=_-]*"
    ),
    token!("jwt", ["eyJ"], r"eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]*"),
    context!(
        "url-password",
        ["://"],
        0.0,
        r#"[A-Za-z][A-Za-z0-9+.-]*://[^\s:/?\#@"'<>]*:(?<secret>[^\s/?\#@"'<>]{3,})@"#
    ),
    context!("url-token", ["://"], 3.3, r"[A-Za-z][A-Za-z0-9+.-]*://(?<secret>[A-Za-z0-9_-]{20,})@"),
    context!(
        "basic-credentials",
        ["basic"],
        0.0,
        r#"(?i:authorization["'\\]{0,2}\s{0,3}[:=]\s{0,3}["'\\]{0,2}basic)\s+(?<secret>[A-Za-z0-9+/]{8,}={0,2})"#
    ),
    context!("bearer-token", ["bearer"], 3.0, r"(?i:bearer)(?:\s+|%20)(?<secret>[A-Za-z0-9._~+/-]{16,}=*)"),
    context!(
        "curl-password",
        ["curl"],
        0.0,
        r#"(?i:curl)\b[^\n]*?\s(?:-u|--user|-U|--proxy-user)[ =]?["']?[^\s:"']+:(?<secret>[^\s"'\\]{4,})"#
    ),
    context!(
        "mysql-password",
        ["mysql", "mariadb"],
        2.5,
        r#"(?:mysql|mariadb)[a-z-]*\s[^\n]*?-p(?<secret>[^\s"'\\-][^\s"'\\]{5,})"#
    ),
    Spec {
        id: "password",
        keywords: &["passw", "passphrase", "passwd", "pwd", "pass="],
        expression: r#"(?i:passw(?:or)?d|passphrase|passwd|pwd|pass)[A-Za-z0-9_-]{0,24}["'\\]{0,3}\s{0,8}(?:=>|:=|=|:)\s{0,4}["'`\\]{0,3}(?<secret>[^\s"'`\\,;&<>]{8,})"#,
        entropy: 3.1,
        check: Check::Password,
        ..PLAIN
    },
    Spec {
        id: "generic-secret",
        keywords: &[
            "secret",
            "token",
            "api_key",
            "apikey",
            "api-key",
            "access_key",
            "accesskey",
            "access-key",
            "auth_key",
            "authkey",
            "private_key",
            "encryption_key",
            "signing_key",
            "master_key",
            "credential",
        ],
        expression: r#"(?i:secret|token|api[_-]?key|access[_-]?key|auth_?key|(?:private|encryption|signing|master)_key|credentials?)[A-Za-z0-9_-]{0,24}["'\\]{0,3}\s{0,8}(?:=>|:=|=|:)\s{0,4}["'`\\]{0,3}(?<secret>[^\s"'`\\,;&<>()\[\]{}]{10,})"#,
        entropy: 3.1,
        check: Check::Digits,
        ..PLAIN
    },
];
