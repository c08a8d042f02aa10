package kernel

func faster() []Set { return nil }
