-- What each version of the policy changed is looked up for its history.
CREATE INDEX policy_object_by_version ON policy_object (policy_version);
