//! stub
use crate::{
    args::{ChannelCommand, Global},
    home::Home,
    instance::Facts,
};
use anyhow::Result;
pub(crate) async fn run(_: &Home, _: &Global, _: ChannelCommand) -> Result<()> {
    anyhow::bail!("later")
}
#[derive(Debug, serde::Serialize)]
pub(crate) struct Overview {}
pub(crate) async fn overview(_: &Home, _: Option<&Facts>, _: &str) -> Result<Vec<Overview>> {
    Ok(vec![])
}
pub(crate) fn one_line(_: &[Overview]) -> String {
    "none".into()
}
