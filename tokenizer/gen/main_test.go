package main

import (
	"os"
	"path/filepath"
	"testing"
)

// All files appear, or none does and nothing is left.
func TestWrite(t *testing.T) {
	dir := t.TempDir()
	if err := write(dir, []file{{"a", []byte("1")}, {"b", []byte("2")}}); err != nil {
		t.Fatal(err)
	}
	if err := compare(dir, []file{{"a", []byte("1")}, {"b", []byte("2")}}); err != nil {
		t.Error(err)
	}
	if err := write(dir, []file{{"a", []byte("3")}, {filepath.Join("no", "b"), []byte("4")}}); err == nil {
		t.Error("a file in a folder that is not there was written")
	}
	if err := compare(dir, []file{{"a", []byte("3")}}); err == nil {
		t.Error("a file was replaced although another could not be written")
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) != 2 {
		t.Errorf("left %v, %v, want a and b", list, err)
	}
}
