"""What gbsep keeps on disk between runs: its folders, small files, the stem cache."""
