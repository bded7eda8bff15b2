package phase

import "context"

// Provider makes the image fit for a target. It only adds: declared packages
// and files.
func Provider(target string, p Packages) Phase {
	inputs := append(p.inputs(), fileInputs("provider")...)
	own := fileInputs(target)
	return Phase{Name: "provider", Version: 1, Inputs: append(append(inputs, own...), setting("target", target)), Prepare: p.prepare, Run: func(ctx context.Context, r *Root) error {
		if err := r.install(ctx, p); err != nil {
			return err
		}
		if err := r.AddFiles("provider"); err != nil {
			return err
		}
		if len(own) > 0 {
			if err := r.AddFiles(target); err != nil {
				return err
			}
		}
		if err := r.tolerateUserData(); err != nil {
			return err
		}
		return r.systemctl(ctx, "enable", "cloud-init-local.service", r.cloudInitNetwork(), "cloud-config.service", "cloud-final.service")
	}}
}

// cloudInitNetwork is the unit of cloud-init's network stage: cloud-init 24.3
// renamed it.
func (r *Root) cloudInitNetwork() string {
	if r.Exists("/usr/lib/systemd/system/cloud-init-network.service") {
		return "cloud-init-network.service"
	}
	return "cloud-init.service"
}

// tolerateUserData lets cloud-init go on when a part of the user data is
// wrong, as Cluster API's bootstrap data expects. Newer releases ignore the
// override file, so the default itself is set as well.
func (r *Root) tolerateUserData() error {
	const dir = "/usr/lib/python3/dist-packages/cloudinit"
	const line = "ERROR_ON_USER_DATA_FAILURE = False\n"
	if err := r.Write(dir+"/feature_overrides.py", []byte(line), 0o644); err != nil {
		return err
	}
	text, err := r.Read(dir + "/features.py")
	if err != nil {
		return err
	}
	return r.Write(dir+"/features.py", append(text, "\n"+line...), 0o644)
}
