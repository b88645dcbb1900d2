//! Endpoints that are deleted, as far as history needs them: records name an endpoint by its number, people by its id.

use std::collections::BTreeMap;

use fanfare_core::{ApplicationId, EndpointId, EndpointNumber, Partition, Timestamp, limits};

use crate::model::Endpoint;

/// What is left of a deleted endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FormerEndpoint {
    pub id: EndpointId,
    pub number: EndpointNumber,
    pub application: ApplicationId,
    pub partition: Partition,
    pub created_at: Timestamp,
    /// Before it was deleted.
    pub updated_at: Timestamp,
}

/// By number. Those that were made first are forgotten first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FormerEndpoints(BTreeMap<EndpointNumber, FormerEndpoint>);

impl FormerEndpoints {
    pub(crate) fn remember(&mut self, endpoint: &Endpoint) {
        let former = FormerEndpoint {
            id: endpoint.id,
            number: endpoint.number,
            application: endpoint.application,
            partition: endpoint.partition,
            created_at: endpoint.created_at,
            updated_at: endpoint.updated_at,
        };
        self.0.insert(endpoint.number, former);
        if self.0.len() > limits::FORMER_ENDPOINTS {
            self.0.pop_first();
        }
    }

    /// With its application goes what can be asked of it.
    pub(crate) fn forget(&mut self, application: ApplicationId) {
        self.0.retain(|_, former| former.application != application);
    }

    pub(crate) fn by_number(&self, number: EndpointNumber) -> Option<&FormerEndpoint> {
        self.0.get(&number)
    }

    pub(crate) fn of(&self, application: ApplicationId) -> impl Iterator<Item = &FormerEndpoint> {
        self.0.values().filter(move |former| former.application == application)
    }
}
