//! What there is already on the ways out that `clamp_mss` concerns, where the kernel has no TCX.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use crate::config::{ClampMss, Config};

use super::super::clsact::{self, Filter, Hook};
use super::super::interface::Interface;

/// An interface whose way out is to have a filter.
#[derive(Debug)]
pub(in super::super) struct ClsactFacts {
    /// The kind of what stands where clsact belongs.
    pub(in super::super) standing: Option<String>,
    /// The filters on its way out.
    pub(in super::super) filters: Vec<Filter>,
}

impl ClsactFacts {
    /// By the names of the interfaces that are here; none if the kernel has TCX.
    pub(super) fn read(config: &Config, has_tcx: &Result<Option<bool>>) -> BTreeMap<String, Result<Self>> {
        let clamped = config
            .interfaces
            .iter()
            .filter(|interface| matches!(has_tcx, Ok(Some(false))) && interface.clamp_mss != ClampMss::Off);
        clamped
            .filter_map(|interface| {
                let read = Self::of(&interface.name).transpose()?;
                Some((interface.name.clone(), read))
            })
            .collect()
    }

    fn of(name: &str) -> Result<Option<Self>> {
        let Some(interface) = Interface::by_name(name)? else {
            return Ok(None);
        };
        let standing = clsact::standing(interface.index);
        // Of what stands there instead, these would be the filters on the way in.
        let filters = match standing.as_ref().map(Option::as_deref) {
            Ok(Some(clsact::CLSACT)) => clsact::filters(interface.index, Hook::Egress),
            _ => Ok(Vec::new()),
        };
        let context = || format!("{name}: its queueing disciplines cannot be listed");
        Ok(Some(Self {
            standing: standing.with_context(context)?,
            filters: filters.with_context(context)?,
        }))
    }
}
