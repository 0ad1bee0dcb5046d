//! Templates that come with Penstock.

use crate::words;

words! {
    /// A template that comes with Penstock.
    pub enum Preset("preset of templates") {
        /// A message of Slack's incoming webhooks.
        Slack = "slack",
        /// A card of Microsoft Teams' workflows.
        Teams = "teams",
        /// A message of Discord's webhooks.
        Discord = "discord",
        /// An alert of PagerDuty's Events API v2: `data` has its `routing_key`.
        PagerDuty = "pagerduty",
    }
}

impl Preset {
    /// Its template, for bodies that are JSON.
    pub fn source(self) -> &'static str {
        match self {
            Self::Slack => include_str!("presets/slack.json"),
            Self::Teams => include_str!("presets/teams.json"),
            Self::Discord => include_str!("presets/discord.json"),
            Self::PagerDuty => include_str!("presets/pagerduty.json"),
        }
    }
}
