package fileset

import "golang.org/x/sys/windows"

func free(dir string) int64 {
	var bytes uint64
	name, err := windows.UTF16PtrFromString(dir)
	if err != nil || windows.GetDiskFreeSpaceEx(name, &bytes, nil, nil) != nil {
		return unknown
	}
	return int64(min(bytes, unknown))
}
