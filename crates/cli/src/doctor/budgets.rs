//! Limits in dollars beside models whose price is not known: a run under such a limit does not begin.

use stakpak_agent_core::Profiles;
use stakpak_config::ConfigFile;
use stakpak_scheduler::{Definition, ScheduleSpec};

use super::{Probe, files::Files};
use crate::{args::Global, autopilot_file::AutopilotFile, profiles::ConfigProfiles};

const ID: &str = "budget_prices";

pub(super) fn look(files: &Files, global: &Global) -> Probe {
    let (Ok(config), Ok(file)) = (&files.config, &files.autopilot) else {
        return Probe::skip(ID, "the files are not read");
    };
    let limits = limits(config, file);
    if limits.is_empty() {
        return Probe::skip(ID, "nothing is limited in dollars");
    }
    let Ok(profiles) = ConfigProfiles::new(config.clone(), &global.profile, file.server.model.clone(), false) else {
        return Probe::skip(ID, "the profile in use cannot be used");
    };
    let unpriced = limits.into_iter().filter_map(|limit| {
        // What has no usable profile or model is told elsewhere.
        let models = profiles.profile(Some(&limit.profile)).ok()?.models.clone();
        let model = models.resolve(&limit.model.or_else(|| models.default_model())?).ok()?;
        let (info, whose) = (model.info(), limit.whose);
        info.cost
            .is_none()
            .then(|| format!("{whose}: the price of {} is not known, so its runs are refused", info.full_id()))
    });
    let advice =
        "give it in config.toml, in US dollars per million tokens: [cost.\"provider/id\"] input = …, output = …";
    let good = "every model with a limit in dollars has a price";
    Probe::of_details(ID, good, "limits in dollars without a price", unpriced.collect(), advice)
}

/// Who runs under a limit in dollars, with which model.
struct Limit {
    whose: String,
    profile: String,
    model: Option<String>,
}

fn limits(config: &ConfigFile, file: &AutopilotFile) -> Vec<Limit> {
    let is_shared = file.schedules.budget.day.usd_per_day.is_some();
    let is_limited =
        |spec: &ScheduleSpec| spec.budget.usd_per_run.is_some() || spec.budget.day.usd_per_day.is_some() || is_shared;
    let valid = file.schedules.schedules.iter().filter_map(|schedule| match &schedule.definition {
        Definition::Valid { spec, .. } if spec.enabled => Some(spec),
        _ => None,
    });
    let of_schedules = valid.filter(|spec| is_limited(spec)).map(|spec| Limit {
        whose: format!("schedule {}", spec.name),
        profile: spec.profile.clone(),
        model: spec.model.clone(),
    });
    let of_all = file.server.limits.agent_cost().is_some();
    let is_limited = |name: &str| {
        of_all || config.profile(name).is_ok_and(|it| it.budget.usd_per_run.or(it.budget.usd_per_day).is_some())
    };
    let of_profiles = config.names().filter(|name| is_limited(name)).map(|name| Limit {
        whose: format!("profile {name}"),
        profile: name.to_owned(),
        model: None,
    });
    of_profiles.chain(of_schedules).collect()
}
