//! Arguments of `mcp …`.

use clap::{ArgGroup, Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum McpCommand {
    /// Lists the servers and the file that says what there are; starts none
    List,
    /// Shows one server; of variables and headers what they refer to, never a value
    Get {
        /// Its name
        name: String,
    },
    /// Writes a server into the file that counts, or into mcp.toml of the state directory
    #[command(
        after_help = "Examples:\n  stakpak mcp add time -- uvx mcp-server-time\n  stakpak mcp add github --env 'GITHUB_TOKEN=${GITHUB_TOKEN}' -- npx -y @modelcontextprotocol/server-github\n  stakpak mcp add docs --url https://mcp.example.com/mcp --header 'Authorization=Bearer ${DOCS_TOKEN}'\n\nA value as '${NAME}' is taken from the environment when the server is started, and is not in the file."
    )]
    Add(McpAddArgs),
    /// Removes a server from the file
    Remove {
        /// Its name
        name: String,
    },
    /// Switches a server on
    Enable {
        /// Its name
        name: String,
    },
    /// Switches a server off; it stays in the file
    Disable {
        /// Its name
        name: String,
    },
    /// Offers the tools of this machine to a program that speaks MCP, over stdin and stdout
    #[command(
        after_help = "Policy of the profile holds; a call that would ask is answered with APPROVAL_REQUIRED and does nothing.\nOver HTTP: mcp = true in [server] of autopilot.toml, then /v1/mcp with the bearer token."
    )]
    Serve,
    /// Starts servers, asks for their tools and ends them again; fails with the cause
    Test {
        /// Only this one
        name: Option<String>,
    },
    /// Trusts the file of the working directory as it is now: the servers in it may be started
    #[command(
        after_help = "A repository may bring such a file along, and it names programs to start: read it first.\nIt is asked for again when the file changes."
    )]
    Trust,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("transport").required(true).args(["url", "command"]))]
pub(crate) struct McpAddArgs {
    /// Its tools are called NAME__TOOL
    pub(crate) name: String,
    /// Where it speaks streamable HTTP
    #[arg(long)]
    pub(crate) url: Option<String>,
    /// A header of every request
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = pair, conflicts_with = "command")]
    pub(crate) headers: Vec<(String, String)>,
    /// A variable of the program
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair, conflicts_with = "url")]
    pub(crate) env: Vec<(String, String)>,
    /// Switched off until `mcp enable`
    #[arg(long)]
    pub(crate) disabled: bool,
    /// In place of one of that name
    #[arg(long)]
    pub(crate) replace: bool,
    /// The program and its arguments, spoken to over stdin and stdout
    #[arg(last = true)]
    pub(crate) command: Vec<String>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().to_owned(), value.to_owned())),
        // What was given may be a secret.
        _ => Err("write NAME=VALUE".to_owned()),
    }
}
