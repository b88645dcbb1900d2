//! What is asked, drawn by number.

use std::time::Duration;

use fanfare_core::{Settlement, Timestamp};
use fanfare_history::{
    AttemptFilter, AttemptStatus, DeadLetterFilter, DeliveryFilter, EndpointAt, History, MessageFilter,
    MessageRow, Pointer, QueryError, Standing, StatusClass, Window,
};

use crate::world::{
    self, APPLICATIONS, CUSTOMERS, ENDPOINTS, EVENT_TYPES, RARE_TAG, RARE_TYPE, SPAN_SECS, Teller, mix,
};

/// Kinds of questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    MessagesNewest,
    MessagesOfType,
    MessagesOfRareType,
    MessagesOfRareTag,
    MessagesByPayload,
    MessagesByAll,
    MessagesFromAnywhere,
    MessagesLastPage,
    MessageById,
    MessageByEvent,
    AttemptsNewest,
    AttemptsOfRareClass,
    AttemptsByStatus,
    AttemptsOfRareType,
    AttemptsOfRareTag,
    AttemptsByPayload,
    AttemptsLastPage,
    AttemptsOfMessage,
    AttemptById,
    DeliveriesUnsettled,
    DeliveriesOfRareType,
    DeliveriesOfMessage,
    DeadLetters,
    DeadLettersOfRareType,
    DeadLettersLastPage,
    Stats,
    AttemptStats,
}

impl Kind {
    pub(crate) const ALL: [Self; 27] = [
        Self::MessagesNewest,
        Self::MessagesOfType,
        Self::MessagesOfRareType,
        Self::MessagesOfRareTag,
        Self::MessagesByPayload,
        Self::MessagesByAll,
        Self::MessagesFromAnywhere,
        Self::MessagesLastPage,
        Self::MessageById,
        Self::MessageByEvent,
        Self::AttemptsNewest,
        Self::AttemptsOfRareClass,
        Self::AttemptsByStatus,
        Self::AttemptsOfRareType,
        Self::AttemptsOfRareTag,
        Self::AttemptsByPayload,
        Self::AttemptsLastPage,
        Self::AttemptsOfMessage,
        Self::AttemptById,
        Self::DeliveriesUnsettled,
        Self::DeliveriesOfRareType,
        Self::DeliveriesOfMessage,
        Self::DeadLetters,
        Self::DeadLettersOfRareType,
        Self::DeadLettersLastPage,
        Self::Stats,
        Self::AttemptStats,
    ];
}

/// Draws what a question is about.
struct Dice {
    seed: u64,
    drawn: u64,
}

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.drawn += 1;
        mix(self.seed, self.drawn) % end
    }

    fn one_of<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize].clone()
    }

    /// As messages are spread: half of them are of the first.
    fn application(&mut self) -> u64 {
        if self.below(2) == 0 { 0 } else { self.below(APPLICATIONS) }
    }

    /// Often the one that gets all messages, or the one that fails.
    fn endpoint(&mut self, application: u64) -> EndpointAt {
        let place = match self.below(3) {
            0 => 0,
            1 => 1,
            _ => self.below(u64::from(ENDPOINTS)),
        };
        world::endpoints(application).nth(place as usize).expect("one of them")
    }

    fn hours(&mut self, begun: Timestamp) -> (Timestamp, Timestamp) {
        let hours = SPAN_SECS / 3_600;
        let from = begun + Duration::from_hours(self.below(hours));
        (from, from + Duration::from_hours(1 + self.below(24)))
    }
}

/// Asks question `number` of its kind; gives how many rows came.
pub(crate) async fn ask(
    history: &History,
    teller: &Teller,
    kind: Kind,
    number: u64,
) -> Result<usize, QueryError> {
    let mut dice = Dice { seed: mix(kind as u64, number), drawn: 0 };
    let owner = dice.application();
    let application = world::application(owner);
    let at = dice.endpoint(owner);
    let limit = dice.one_of(&[50, 250]);
    let newest = Window::new(limit, None, true);
    let found = match kind {
        Kind::MessagesNewest => {
            history.messages(application, &MessageFilter::default(), &newest).await?.items.len()
        }
        Kind::MessagesOfType => {
            let filter = MessageFilter {
                event_types: vec![dice.one_of(&EVENT_TYPES).to_owned()],
                ..MessageFilter::default()
            };
            history.messages(application, &filter, &newest).await?.items.len()
        }
        Kind::MessagesOfRareType => {
            history.messages(application, &of_rare_type(), &newest).await?.items.len()
        }
        Kind::MessagesOfRareTag => history.messages(application, &of_rare_tag(), &newest).await?.items.len(),
        Kind::MessagesByPayload => {
            history.messages(application, &by_payload(&mut dice), &newest).await?.items.len()
        }
        Kind::MessagesByAll => {
            let (after, before) = dice.hours(teller.begun);
            let filter = MessageFilter {
                event_types: vec![dice.one_of(&EVENT_TYPES).to_owned(), dice.one_of(&EVENT_TYPES).to_owned()],
                channel: Some("eu".to_owned()),
                tag: Some("nightly".to_owned()),
                after: Some(after),
                before: Some(before),
                ..MessageFilter::default()
            };
            history.messages(application, &filter, &newest).await?.items.len()
        }
        Kind::MessagesFromAnywhere => {
            let from = teller.id(dice.below(teller.total)).to_string();
            let window = Window::new(limit, Some(&from), dice.below(2) == 0);
            history.messages(application, &MessageFilter::default(), &window).await?.items.len()
        }
        Kind::MessagesLastPage => {
            let from = teller.id(teller.total / 1_000).to_string();
            let window = Window::new(limit, Some(&from), true);
            history.messages(application, &MessageFilter::default(), &window).await?.items.len()
        }
        Kind::MessageById => some(message(history, teller, &mut dice).await?.as_ref()),
        Kind::MessageByEvent => {
            let n = dice.below(teller.total) / 10 * 10;
            let application = world::application(teller.tell(n).application);
            some(history.message(application, &format!("event-{n}")).await?.as_ref())
        }
        Kind::AttemptsNewest => {
            history.attempts_of_endpoint(at, &AttemptFilter::default(), &newest).await?.items.len()
        }
        Kind::AttemptsOfRareClass => {
            let filter = AttemptFilter { class: StatusClass::new(300), ..AttemptFilter::default() };
            history.attempts_of_endpoint(at, &filter, &newest).await?.items.len()
        }
        Kind::AttemptsByStatus => {
            let (after, before) = dice.hours(teller.begun);
            let all = [AttemptStatus::Delivered, AttemptStatus::Retrying, AttemptStatus::Failed];
            let filter = AttemptFilter {
                statuses: vec![dice.one_of(&all)],
                after: Some(after),
                before: Some(before),
                ..AttemptFilter::default()
            };
            history.attempts_of_endpoint(at, &filter, &newest).await?.items.len()
        }
        Kind::AttemptsOfRareType | Kind::AttemptsOfRareTag | Kind::AttemptsByPayload => {
            let message = match kind {
                Kind::AttemptsOfRareType => of_rare_type(),
                Kind::AttemptsOfRareTag => of_rare_tag(),
                _ => by_payload(&mut dice),
            };
            let filter = AttemptFilter { message, ..AttemptFilter::default() };
            history.attempts_of_endpoint(at, &filter, &newest).await?.items.len()
        }
        Kind::AttemptsLastPage => {
            let from = fanfare_core::attempt_id(
                teller.at(teller.total / 1_000),
                at.number,
                fanfare_core::Offset::ZERO,
                1,
            );
            let window = Window::new(limit, Some(&from.to_string()), true);
            history.attempts_of_endpoint(at, &AttemptFilter::default(), &window).await?.items.len()
        }
        Kind::AttemptsOfMessage => {
            let Some(message) = message(history, teller, &mut dice).await? else { return Ok(0) };
            history.attempts_of_message(&message, &AttemptFilter::default(), &newest).await?.items.len()
        }
        Kind::AttemptById => {
            let Some(message) = message(history, teller, &mut dice).await? else { return Ok(0) };
            let window = Window::new(1, None, true);
            let page = history.attempts_of_message(&message, &AttemptFilter::default(), &window).await?;
            let Some(attempt) = page.items.first() else { return Ok(0) };
            some(history.attempt(attempt.id).await?.as_ref())
        }
        Kind::DeliveriesUnsettled => {
            let standings = vec![Standing::Pending, Standing::Retrying];
            let filter = DeliveryFilter { standings, ..DeliveryFilter::default() };
            history.deliveries_of_endpoint(at, &filter, &newest).await?.items.len()
        }
        Kind::DeliveriesOfRareType => {
            let filter = DeliveryFilter { message: of_rare_type(), ..DeliveryFilter::default() };
            history.deliveries_of_endpoint(at, &filter, &newest).await?.items.len()
        }
        Kind::DeliveriesOfMessage => {
            let Some(message) = message(history, teller, &mut dice).await? else { return Ok(0) };
            history.deliveries_of_message(&message, &DeliveryFilter::default(), &newest).await?.items.len()
        }
        Kind::DeadLetters | Kind::DeadLettersOfRareType | Kind::DeadLettersLastPage => {
            let endpoints: Vec<_> = world::endpoints(owner).collect();
            let is_rare = kind == Kind::DeadLettersOfRareType;
            let filter = DeadLetterFilter {
                message: if is_rare { of_rare_type() } else { MessageFilter::default() },
                reasons: vec![Settlement::Exhausted],
                ..DeadLetterFilter::default()
            };
            let window = Window::new(limit, None, kind != Kind::DeadLettersLastPage);
            history.dead_letters(&endpoints, &filter, &window).await?.items.len()
        }
        Kind::Stats => {
            let (since, until) = dice.hours(teller.begun);
            usize::try_from(history.stats(at, since, until).await?.delivered).unwrap_or(usize::MAX)
        }
        Kind::AttemptStats => {
            let (since, until) = dice.hours(teller.begun);
            history.attempt_stats(at.number, since, until).await?.len()
        }
    };
    Ok(found)
}

fn of_rare_type() -> MessageFilter {
    MessageFilter { event_types: vec![RARE_TYPE.to_owned()], ..MessageFilter::default() }
}

fn of_rare_tag() -> MessageFilter {
    MessageFilter { tag: Some(RARE_TAG.to_owned()), ..MessageFilter::default() }
}

fn by_payload(dice: &mut Dice) -> MessageFilter {
    let value = dice.below(CUSTOMERS).into();
    let payload = Some(Pointer { pointer: "/customer/id".to_owned(), value });
    MessageFilter { payload, ..MessageFilter::default() }
}

async fn message(
    history: &History,
    teller: &Teller,
    dice: &mut Dice,
) -> Result<Option<MessageRow>, QueryError> {
    let n = dice.below(teller.total);
    let application = world::application(teller.tell(n).application);
    history.message(application, &teller.id(n).to_string()).await
}

fn some<T>(found: Option<&T>) -> usize {
    usize::from(found.is_some())
}
