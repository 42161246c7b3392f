//! The end of the count of starts: the box serves. Nothing here may end the judge of versions with
//! an error, because that starts the box anew.

use palabre_appliance::history::What;
use palabre_appliance::starts;
use palabre_init::variables::Variables;

use super::{Failed, Places, remember};

/// Whether the running version took the place of one that never served.
pub(crate) fn stands_in(places: &Places, running: u64) -> bool {
    let variables = Variables::new(&places.variables);
    let root = places.root_hash();
    root.is_ok_and(|root| starts::instead_of(&variables, running, &root).is_some())
}

/// The running version serves: the one whose place it took is bad, and starts count anew.
pub(crate) fn serves(places: &Places, running: u64) {
    let variables = Variables::new(&places.variables);
    let Ok(root) = places.root_hash() else {
        return;
    };
    match starts::judge(&variables, &mut places.boot(), running, &root) {
        Ok(None) => {}
        Ok(Some(starts::Failed { version, why })) => {
            eprintln!("version {version} failed: {why}");
            remember(places, What::Bad, version, &why);
        }
        // It is told apart all the same: the trial that follows keeps the running one.
        Err(error) => {
            eprintln!("the version that never served could not be marked bad: {error}")
        }
    }
    // The disk may have been written anew since that version failed.
    if let Err(error) = palabre_init::failed::forget(&variables, running) {
        eprintln!("that version {running} failed once could not be forgotten: {error}");
    }
    if let Err(error) = palabre_init::starts::forget(&variables) {
        eprintln!("the count of starts could not be forgotten: {error}");
    }
}

/// What ended the starts until now is known, and no fault of this version.
pub(crate) fn forget(places: &Places) -> Result<String, Failed> {
    let variables = Variables::new(&places.variables);
    palabre_init::starts::forget(&variables).map_err(|error| Failed::said("firmware", error))?;
    Ok("the starts until now are not counted\n".to_owned())
}
