//! A lane with what its partition needs beside it.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, DefaultHasher},
    sync::Arc,
    time::Duration,
};

use fanfare_control::Control;
use fanfare_core::{ApplicationId, EndpointNumber, Offset, Timestamp, lane::Lane, limits};

use crate::{
    send::{Target, TargetError, TargetSettings},
    steady::Steady,
};

/// Lanes by endpoint. Hashed without randomness: numbers are given by us, and the same history is to walk through
/// them in the same order.
pub(crate) type Slots = HashMap<EndpointNumber, Slot, BuildHasherDefault<DefaultHasher>>;

/// One endpoint's place in its partition. Endpoints with nothing to do have none.
#[allow(clippy::struct_excessive_bools, reason = "each says something else of it")]
pub(crate) struct Slot {
    pub(crate) lane: Lane,
    pub(crate) application: ApplicationId,
    /// The tail has passed records that the lane had no room for; catch-up reads them later.
    pub(crate) behind: bool,
    /// Records at and above the lane's `next`, as far as the tail saw them.
    pub(crate) above: u64,
    /// Records shown to it since the last report.
    pub(crate) arrived: u32,
    /// Changed since its last snapshot.
    pub(crate) dirty: bool,
    /// When the partition's timer for it fires.
    pub(crate) wake: Option<Timestamp>,
    /// It waits for room in the partition's budget.
    pub(crate) queued: bool,
    /// The record whose ordering key it waits for.
    pub(crate) asked_key: Option<Offset>,
    target: Option<Prepared>,
    /// `control` was applied up to here when the lane was last brought in line with its endpoint.
    followed: Offset,
    pub(crate) touched: Timestamp,
}

struct Prepared {
    target: Arc<Target>,
    /// `control` was applied up to here when it was made or checked.
    checked: Offset,
    /// A signing secret lapses then.
    lapses: Timestamp,
}

/// Why an endpoint cannot be sent to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unsendable {
    #[error("it is disabled or deleted")]
    Gone,
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error(transparent)]
    Seal(#[from] fanfare_control::SealError),
}

impl Slot {
    pub(crate) fn new(lane: Lane, application: ApplicationId, now: Timestamp) -> Self {
        Self {
            lane,
            application,
            behind: false,
            above: 0,
            arrived: 0,
            dirty: true,
            wake: None,
            queued: false,
            asked_key: None,
            target: None,
            followed: Offset::ZERO,
            touched: now,
        }
    }

    /// Deliveries that are not settled, those not yet looked at included.
    pub(crate) fn backlog(&self) -> u64 {
        self.lane.unsettled() + self.above
    }

    /// Brings the lane in line with how its endpoint is set now; looks once for each position of `control`.
    pub(crate) fn follow(&mut self, number: EndpointNumber, control: &Control, steady: &Steady) {
        let position = control.position();
        if self.followed == position {
            return;
        }
        self.followed = position;
        let Some(endpoint) = control.view().endpoint_by_number(number) else { return };
        let policy = control.policy(&endpoint);
        if policy != *self.lane.policy() {
            self.lane.set_policy(policy, steady.now());
            self.dirty = true;
        }
    }

    /// The endpoint as it is set now: made once per revision, checked when `control` has moved on.
    pub(crate) fn target(
        &mut self,
        number: EndpointNumber,
        control: &Control,
        now: Timestamp,
    ) -> Result<Arc<Target>, Unsendable> {
        let position = control.position();
        if let Some(prepared) = &self.target
            && prepared.checked == position
            && now < prepared.lapses
        {
            return Ok(Arc::clone(&prepared.target));
        }
        let endpoint = control.view().endpoint_by_number(number).ok_or(Unsendable::Gone)?;
        if endpoint.settings.disabled {
            return Err(Unsendable::Gone);
        }
        if let Some(prepared) = &mut self.target
            && prepared.target.revision() == endpoint.revision
            && now < prepared.lapses
        {
            prepared.checked = position;
            return Ok(Arc::clone(&prepared.target));
        }
        let timeout = endpoint.settings.timeout_secs.map_or(limits::DELIVERY_TIMEOUT, |secs| {
            Duration::from_secs(u64::from(secs.min(limits::DELIVERY_TIMEOUT_SECS_MAX)))
        });
        let target = Arc::new(Target::new(TargetSettings {
            number,
            revision: endpoint.revision,
            url: &endpoint.settings.url,
            headers: &endpoint.settings.headers,
            timeout,
            signer: control.signer(&endpoint, now)?,
            max_connections: control.policy(&endpoint).window(),
        })?);
        let lapses = Control::signer_lapses(&endpoint, now);
        self.target = Some(Prepared { target: Arc::clone(&target), checked: position, lapses });
        Ok(target)
    }

    pub(crate) fn forget_target(&mut self) {
        self.target = None;
    }
}
