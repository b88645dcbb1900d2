//! Jobs, from their making to their end.

use fanfare_core::{ApplicationId, EndpointId, JobId, Offset, Timestamp, limits};

use super::*;
use crate::{
    Envelope,
    jobs::{Job, JobKind, JobState, Place, Progress, Selection, Steer, job_number},
    model::{ApplicationSettings, EndpointSecret, EndpointSettings, Installation},
};

const APPLICATION: ApplicationId = ApplicationId::from_bytes([1; 20]);
const ENDPOINT: EndpointId = EndpointId::from_bytes([2; 20]);

/// A view with one endpoint, and commands that are given to it.
struct World(View);

impl World {
    fn new() -> Self {
        let mut world = Self(View::default());
        let organization = crate::default_organization();
        world.give(Command::Install(Installation {
            id: fanfare_core::InstallationId::from_bytes([0; 20]),
            incarnations: std::collections::BTreeMap::new(),
            message_partitions: 1,
            delivery_partitions: 1,
            secret_check: String::new(),
        }));
        world.give(Command::CreateApplication {
            id: APPLICATION,
            organization,
            partition: Partition(0),
            settings: ApplicationSettings::default(),
        });
        world.give(Command::CreateEndpoint {
            id: ENDPOINT,
            application: APPLICATION,
            partition: Partition(0),
            settings: Box::new(EndpointSettings::default()),
            secret: EndpointSecret { sealed: crate::Sealed::from_bytes(*b"x"), expires_at: None },
        });
        world
    }

    fn give(&mut self, command: Command) -> Applied {
        self.try_give(command).unwrap()
    }

    fn try_give(&mut self, command: Command) -> Result<Applied, Refusal> {
        let offset = self.0.position();
        let at = Timestamp::from_secs(i64::try_from(offset.0).unwrap());
        self.0.apply(offset, &Envelope { at, nonce: 0, key: None, origin: None, command })
    }

    fn create(&mut self, number: u16) -> Result<JobId, Refusal> {
        let mut id = [0; 20];
        id[..2].copy_from_slice(&number.to_be_bytes());
        let (id, selection) = (JobId::from_bytes(id), Box::<Selection>::default());
        let kind = JobKind::Recover;
        self.try_give(Command::CreateJob {
            id,
            application: APPLICATION,
            endpoint: Some(ENDPOINT),
            kind,
            selection,
        })?;
        Ok(id)
    }

    fn steer(&mut self, id: JobId, order: Steer) -> Result<JobState, Refusal> {
        self.try_give(Command::SteerJob { application: APPLICATION, id, order })?;
        Ok(self.job(id).state)
    }

    fn end(&mut self, id: JobId, ended: JobState) {
        self.give(Command::NoteJobProgress { id, progress: Box::default(), ended: Some(ended) });
    }

    fn job(&self, id: JobId) -> Arc<Job> {
        Arc::clone(self.0.job(id).unwrap())
    }
}

#[test]
fn a_job_is_steered_until_it_ends() {
    let mut world = World::new();
    let id = world.create(1).unwrap();
    assert_eq!(world.create(1), Err(Refusal::IdTaken(id.to_string())));
    assert_eq!(world.steer(id, Steer::Pause), Ok(JobState::Paused));
    assert_eq!(world.steer(id, Steer::Pause), Ok(JobState::Paused));
    assert_eq!(world.steer(id, Steer::Resume), Ok(JobState::Running));
    let progress = Progress { injected: 7, ..Progress::default() };
    world.give(Command::NoteJobProgress { id, progress: Box::new(progress.clone()), ended: None });
    assert_eq!((world.job(id).state, &world.job(id).progress), (JobState::Running, &progress));
    assert!(!world.0.job_was_cancelled(job_number(id)));
    assert_eq!(world.steer(id, Steer::Cancel), Ok(JobState::Cancelled));
    assert!(world.0.job_was_cancelled(job_number(id)));
    assert_eq!(world.steer(id, Steer::Resume), Err(Refusal::JobEnded(id)));
    // Who carries it on may not have heard of it yet.
    world.end(id, JobState::Finished);
    assert_eq!(world.job(id).state, JobState::Cancelled);
    assert_eq!(world.0.open_jobs().count(), 0);
    let unknown = JobId::from_bytes([9; 20]);
    assert_eq!(world.steer(unknown, Steer::Pause), Err(Refusal::NoJob(unknown)));
}

#[test]
fn jobs_are_bounded() {
    let mut world = World::new();
    for number in 0..u16::try_from(limits::JOBS_PER_ENDPOINT).unwrap() {
        world.create(number).unwrap();
    }
    assert_eq!(world.create(100), Err(Refusal::TooManyJobs));
    let first = world.0.open_jobs().next().unwrap().id;
    for number in 0..u16::try_from(limits::JOBS_KEPT).unwrap() {
        let open = world.0.open_jobs().last().unwrap().id;
        world.end(open, JobState::Finished);
        world.create(1_000 + number).unwrap();
    }
    let all: Vec<_> = world.0.jobs(crate::default_organization()).map(|job| job.id).collect();
    assert_eq!(all.len(), limits::JOBS_KEPT);
    assert!(all.contains(&first), "one that goes on is not forgotten");
}

#[test]
fn an_erasure_hides_from_its_making_on_and_is_not_stopped() {
    let mut world = World::new();
    let place = |offset| Place { partition: Partition(0), offset: Offset(offset) };
    let erased = |world: &World, offset| world.0.is_erased(APPLICATION, Partition(0), Offset(offset));
    let other = ApplicationId::from_bytes([9; 20]);
    world.give(Command::EraseContents { application: APPLICATION, offsets: vec![Offset(3), Offset(70)] });
    assert!(erased(&world, 3) && erased(&world, 70) && !erased(&world, 4));
    let unknown = Command::EraseContents { application: other, offsets: vec![Offset(4)] };
    assert_eq!(world.try_give(unknown), Err(Refusal::NoApplication(other)));

    let id = JobId::from_bytes([5; 20]);
    let create = |endpoint, kind, below| Command::CreateJob {
        id,
        application: APPLICATION,
        endpoint,
        kind,
        selection: Box::new(Selection { below, ..Selection::default() }),
    };
    for wrong in [
        create(None, JobKind::Recover, None),
        create(None, JobKind::EraseContents, None),
        create(Some(ENDPOINT), JobKind::EraseContents, Some(place(9))),
    ] {
        assert_eq!(world.try_give(wrong), Err(Refusal::WrongJob(id)));
    }
    world.give(create(None, JobKind::EraseContents, Some(place(9))));
    assert!(erased(&world, 8) && !erased(&world, 9) && erased(&world, 70));
    assert!(!world.0.is_erased(other, Partition(0), Offset(8)), "what is another's stays");
    for order in [Steer::Pause, Steer::Cancel] {
        let steered = world.try_give(Command::SteerJob { application: APPLICATION, id, order });
        assert_eq!(steered, Err(Refusal::ErasesToTheEnd(id)));
    }
    world.give(Command::DeleteApplication { id: APPLICATION });
    assert!(erased(&world, 8) && erased(&world, 3), "though its application is gone");
}
