//! Options that stand before a subcommand, such as `git -C dir push`: rules for `git push` mean that command, too.

use crate::Word;

/// A program's options before its subcommand.
struct Program {
    name: &'static str,
    /// With a value, attached by `=` or as the next word.
    valued: &'static [&'static str],
    /// Without a value.
    flags: &'static [&'static str],
    /// Those of both that do not change what the subcommand does.
    harmless: &'static [&'static str],
}

const PROGRAMS: [Program; 10] = [
    Program {
        name: "git",
        valued: &[
            "-C",
            "-c",
            "--git-dir",
            "--work-tree",
            "--namespace",
            "--super-prefix",
            "--config-env",
            "--exec-path",
        ],
        flags: &[
            "--no-pager",
            "-P",
            "-p",
            "--paginate",
            "--bare",
            "--no-replace-objects",
            "--literal-pathspecs",
            "--no-optional-locks",
        ],
        harmless: &["-C", "--no-pager", "-P", "--no-optional-locks", "--literal-pathspecs"],
    },
    Program {
        name: "kubectl",
        valued: &[
            "-n",
            "--namespace",
            "--context",
            "--cluster",
            "--user",
            "--kubeconfig",
            "-s",
            "--server",
            "--as",
            "--token",
            "--request-timeout",
            "-v",
        ],
        flags: &["--insecure-skip-tls-verify", "--warnings-as-errors"],
        harmless: &["-n", "--namespace", "--request-timeout", "-v"],
    },
    Program {
        name: "docker",
        valued: &[
            "-H",
            "--host",
            "-c",
            "--context",
            "--config",
            "-l",
            "--log-level",
            "--tlscacert",
            "--tlscert",
            "--tlskey",
        ],
        flags: &["-D", "--debug", "--tls", "--tlsverify"],
        harmless: &["-D", "--debug", "-l", "--log-level"],
    },
    Program {
        name: "helm",
        valued: &[
            "-n",
            "--namespace",
            "--kube-context",
            "--kubeconfig",
            "--kube-apiserver",
            "--kube-token",
            "--registry-config",
        ],
        flags: &["--debug"],
        harmless: &["-n", "--namespace", "--debug"],
    },
    Program {
        name: "aws",
        valued: &[
            "--region",
            "--profile",
            "--output",
            "--endpoint-url",
            "--query",
            "--color",
            "--ca-bundle",
            "--cli-read-timeout",
            "--cli-connect-timeout",
        ],
        flags: &["--debug", "--no-verify-ssl", "--no-paginate", "--no-sign-request", "--no-cli-pager"],
        harmless: &["--region", "--output", "--query", "--color", "--no-paginate", "--no-cli-pager", "--debug"],
    },
    Program {
        name: "gcloud",
        valued: &[
            "--project",
            "--account",
            "--configuration",
            "--format",
            "--verbosity",
            "--impersonate-service-account",
            "--billing-project",
        ],
        flags: &["-q", "--quiet"],
        harmless: &["--format", "--verbosity"],
    },
    Program {
        name: "az",
        valued: &["--subscription", "-o", "--output", "--query"],
        flags: &["--debug", "--verbose", "--only-show-errors"],
        harmless: &["-o", "--output", "--query", "--debug", "--verbose", "--only-show-errors"],
    },
    Program { name: "terraform", valued: &["-chdir"], flags: &["-no-color"], harmless: &["-chdir", "-no-color"] },
    Program {
        name: "npm",
        valued: &["--prefix", "-C", "-w", "--workspace", "--registry", "--userconfig", "--loglevel"],
        flags: &["-s", "--silent", "-g", "--global", "--workspaces"],
        harmless: &["-s", "--silent", "--loglevel"],
    },
    Program {
        name: "cargo",
        valued: &["--config", "-C", "-Z", "--color", "--manifest-path"],
        flags: &["-v", "--verbose", "-q", "--quiet", "--locked", "--offline", "--frozen"],
        harmless: &["-v", "--verbose", "-q", "--quiet", "--locked", "--offline", "--frozen", "--color"],
    },
];

/// `systemctl` has mostly flags.
const SYSTEMCTL: Program = Program {
    name: "systemctl",
    valued: &["-H", "--host", "-M", "--machine", "-t", "--type", "-n", "--lines", "-o", "--output", "--root"],
    flags: &[
        "--user",
        "--system",
        "--no-pager",
        "-q",
        "--quiet",
        "--no-ask-password",
        "-l",
        "--full",
        "-a",
        "--all",
        "--now",
    ],
    harmless: &[
        "--no-pager",
        "-q",
        "--quiet",
        "-l",
        "--full",
        "-a",
        "--all",
        "-t",
        "--type",
        "-n",
        "--lines",
        "-o",
        "--output",
    ],
};

/// Arguments as rules may mean them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidates {
    /// Without the options before the subcommand; none: there are none, or where they end is not known.
    pub without_options: Option<Vec<Word>>,
    /// Whether those options leave the subcommand what it is.
    pub are_harmless: bool,
    /// Whether some of them are not known: any of the arguments may be the subcommand.
    pub is_uncertain: bool,
}

/// The arguments of a program without the options before its subcommand.
#[must_use]
pub fn candidates(program: &str, arguments: &[Word]) -> Candidates {
    let none = Candidates { without_options: None, are_harmless: true, is_uncertain: false };
    let Some(known) = PROGRAMS.iter().chain([&SYSTEMCTL]).find(|known| known.name == program) else { return none };
    let (mut at, mut are_harmless) = (0, true);
    while let Some(word) = arguments.get(at).filter(|word| word.text.starts_with('-') && word.text.len() > 1) {
        let (name, value) =
            word.text.split_once('=').map_or((word.text.as_str(), None), |(name, value)| (name, Some(value)));
        are_harmless &= known.harmless.contains(&name) && !word.may_split;
        if known.valued.contains(&name) {
            at += 1 + usize::from(value.is_none());
        } else if known.flags.contains(&name) && value.is_none() {
            at += 1;
        } else {
            return Candidates { without_options: None, are_harmless: false, is_uncertain: true };
        }
    }
    match arguments.get(at..) {
        Some(rest) if at > 0 => Candidates { without_options: Some(rest.to_vec()), are_harmless, is_uncertain: false },
        _ => none,
    }
}
