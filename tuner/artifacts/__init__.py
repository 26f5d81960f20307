"""Files of trial attempts: folders in the home, snapshots in the artifact store, and the uploads between them."""
