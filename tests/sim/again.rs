//! The outside that has messages sent again: old ones, one after the other, to endpoints that want them.

use fanfare_core::{Delivery, EndpointNumber, Message, Offset, Partition};
use fanfare_log::{NewRecord, Sync, Topic};
use tokio::time::sleep;

use crate::{process::Process, producers::Producer, random::Random, receivers::publish_in};

impl Producer {
    /// The next record of this producer's job. One whose append failed is appended again: it may be there already.
    pub(crate) async fn send_again(&self, random: &mut Random, sequence: u64) {
        let Some((to, mut delivery)) = self.pick(random).await else { return };
        if let Delivery::Injected { sequence: number, .. } = &mut delivery {
            *number = sequence;
        }
        let record = NewRecord::head(delivery.encode());
        loop {
            if let Some(process) = self.world.process(random) {
                let append = async {
                    let pending =
                        process.log.append(Topic::Deliveries, to, vec![record.clone()], Sync::Now).await;
                    pending.ok()?.await.ok()
                };
                let appended = tokio::select! {
                    biased;
                    () = process.dead.cancelled() => None,
                    appended = append => appended,
                };
                if appended.is_some() {
                    return;
                }
            }
            sleep(random.millis(20..300)).await;
        }
    }

    /// Of messages with a key the routers decide which of them is one: they are left alone.
    async fn pick(&self, random: &mut Random) -> Option<(Partition, Delivery)> {
        let process = self.world.process(random)?;
        let (partition, offset, message, number) = self.message(&process, random).await?;
        let publishes = self.world.surroundings.history.publishes();
        if publishes.get(&number).is_none_or(|publish| publish.key.is_some()) {
            return None;
        }
        let view = process.control.view();
        let wanting = view.matching(message.application, &message.event_type, &message.channels);
        let (to, endpoint): (Partition, EndpointNumber) =
            *wanting.get(usize::try_from(random.below((wanting.len() as u64).max(1))).unwrap())?;
        let delivery = Delivery::Injected {
            job: self.number,
            sequence: 0,
            id: message.id,
            partition,
            offset,
            ordering_key: message.ordering_key_hash(),
            endpoints: vec![endpoint],
            at: message.accepted_at,
            control: view.position(),
        };
        Some((to, delivery))
    }

    async fn message(
        &self,
        process: &Process,
        random: &mut Random,
    ) -> Option<(Partition, Offset, Message, u32)> {
        let application = process.control.view().application_by_id(self.application)?;
        let partition = application.partition;
        let bounds = process.log.bounds(Topic::Messages, partition).await.ok()?;
        let from = Offset(random.below(bounds.end.0.max(1)));
        let batch = process.log.fetch(Topic::Messages, partition, from, 1).await.ok()?;
        let record = batch.records.into_iter().next()?;
        let message = Message::decode(&record.head).ok()?;
        let number = publish_in(&record.payload?);
        (message.application == self.application).then_some((partition, record.offset, message, number))
    }
}
