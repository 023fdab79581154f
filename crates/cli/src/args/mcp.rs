//! Arguments of `mcp …`.

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum McpCommand {
    /// Lists the servers and the file that says what there are; starts none
    List,
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
