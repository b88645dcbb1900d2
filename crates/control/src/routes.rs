//! Which endpoints of one application want a message: the index that the router asks for every one.

use std::{cmp::Ordering, collections::BTreeMap, sync::Arc};

use fanfare_core::{EndpointNumber, Partition};

use crate::model::Endpoint;

/// The enabled endpoints of one application, each under the event types it filters by or under `any_type`;
/// every list sorted by partition and number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Routes {
    any_type: Vec<Route>,
    by_type: BTreeMap<Box<str>, Vec<Route>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Route {
    partition: Partition,
    number: EndpointNumber,
    /// Set when its channels have to be looked at.
    filtering: Option<Arc<Endpoint>>,
}

impl Route {
    fn order(&self) -> (Partition, EndpointNumber) {
        (self.partition, self.number)
    }

    fn wants(&self, channels: &[String]) -> bool {
        let wanted = self.filtering.as_ref().and_then(|endpoint| endpoint.settings.channels.as_deref());
        wanted.is_none_or(|wanted| channels.iter().any(|channel| wanted.contains(channel)))
    }
}

impl Routes {
    pub(crate) fn insert(&mut self, endpoint: &Arc<Endpoint>) {
        if endpoint.settings.disabled {
            return;
        }
        let filtering = endpoint.settings.channels.is_some().then(|| Arc::clone(endpoint));
        let route = Route { partition: endpoint.partition, number: endpoint.number, filtering };
        match &endpoint.settings.event_types {
            None => insert(&mut self.any_type, route),
            Some(names) => {
                for name in names {
                    insert(self.by_type.entry(name.as_str().into()).or_default(), route.clone());
                }
            }
        }
    }

    pub(crate) fn remove(&mut self, endpoint: &Endpoint) {
        let order = (endpoint.partition, endpoint.number);
        match &endpoint.settings.event_types {
            None => remove(&mut self.any_type, order),
            Some(names) => {
                for name in names {
                    let Some(routes) = self.by_type.get_mut(name.as_str()) else { continue };
                    remove(routes, order);
                    if routes.is_empty() {
                        self.by_type.remove(name.as_str());
                    }
                }
            }
        }
    }

    /// Endpoints that want a message of `event_type` with `channels`, sorted. An endpoint without channels
    /// takes all; one with channels takes what has one of them, and nothing that has none.
    pub(crate) fn matching(&self, event_type: &str, channels: &[String]) -> Vec<(Partition, EndpointNumber)> {
        let of_type = self.by_type.get(event_type).map_or(&[][..], Vec::as_slice);
        let mut found = Vec::with_capacity(self.any_type.len() + of_type.len());
        let (mut left, mut right) = (self.any_type.as_slice(), of_type);
        loop {
            let from_left = match (left.first(), right.first()) {
                (Some(a), Some(b)) => a.order().cmp(&b.order()) == Ordering::Less,
                (Some(_), None) => true,
                (None, Some(_)) => false,
                (None, None) => return found,
            };
            let side = if from_left { &mut left } else { &mut right };
            let (route, rest) = side.split_first().expect("its first element was just looked at");
            *side = rest;
            if route.wants(channels) {
                found.push(route.order());
            }
        }
    }
}

/// Once, though a filter may name a type twice.
fn insert(routes: &mut Vec<Route>, route: Route) {
    if let Err(place) = routes.binary_search_by_key(&route.order(), Route::order) {
        routes.insert(place, route);
    }
}

fn remove(routes: &mut Vec<Route>, order: (Partition, EndpointNumber)) {
    if let Ok(place) = routes.binary_search_by_key(&order, Route::order) {
        routes.remove(place);
    }
}
