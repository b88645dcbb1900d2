//! Whose turn it is when the process sends as much as it may: applications in turn, and the lanes of each in turn, so
//! that one with many busy endpoints takes no more than one with few.

use std::collections::{HashMap, VecDeque};

use fanfare_core::{ApplicationId, EndpointNumber};

#[derive(Debug, Default)]
pub(crate) struct Turns {
    applications: VecDeque<ApplicationId>,
    lanes: HashMap<ApplicationId, VecDeque<EndpointNumber>>,
    len: usize,
}

impl Turns {
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Queues a lane behind its application's others. The caller sees to it that it stands here once.
    pub(crate) fn push(&mut self, application: ApplicationId, lane: EndpointNumber) {
        let lanes = self.lanes.entry(application).or_insert_with(|| {
            self.applications.push_back(application);
            VecDeque::new()
        });
        lanes.push_back(lane);
        self.len += 1;
    }

    pub(crate) fn pop(&mut self) -> Option<EndpointNumber> {
        let application = self.applications.pop_front()?;
        let lanes = self.lanes.get_mut(&application)?;
        let lane = lanes.pop_front();
        if lanes.is_empty() {
            self.lanes.remove(&application);
        } else {
            self.applications.push_back(application);
        }
        self.len -= usize::from(lane.is_some());
        lane
    }
}

impl FromIterator<(ApplicationId, EndpointNumber)> for Turns {
    fn from_iter<I: IntoIterator<Item = (ApplicationId, EndpointNumber)>>(lanes: I) -> Self {
        let mut turns = Self::default();
        for (application, lane) in lanes {
            turns.push(application, lane);
        }
        turns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn applications_take_turns_whatever_the_number_of_their_lanes() {
        let [busy, quiet] = [1, 2].map(|byte| ApplicationId::from_bytes([byte; 20]));
        let mut turns: Turns = (0..100).map(|lane| (busy, EndpointNumber(lane))).collect();
        turns.push(quiet, EndpointNumber(900));
        turns.push(quiet, EndpointNumber(901));
        let order: Vec<u32> = std::iter::from_fn(|| turns.pop()).map(|lane| lane.0).collect();
        assert_eq!(order[..5], [0, 900, 1, 901, 2]);
        assert_eq!(order.len(), 102);
        assert!(turns.is_empty());
    }
}
